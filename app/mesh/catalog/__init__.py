"""From a snapshot to what one profile may do; one question per file."""
