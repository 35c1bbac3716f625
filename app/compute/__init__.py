"""Where objects come from and go to."""
