"""Pure: objects to snapshot to policy."""
