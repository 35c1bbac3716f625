"""What the API server asks during admission."""
