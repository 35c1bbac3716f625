"""From identity to certificate."""
