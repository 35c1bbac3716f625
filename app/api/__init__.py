"""The REST admin API under /api/v1."""
