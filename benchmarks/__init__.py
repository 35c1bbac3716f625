"""Numbers that the documentation quotes: measured against the real server."""
