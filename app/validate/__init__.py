"""Objects to verdicts: what the API server is told when it asks before storing; pure."""
