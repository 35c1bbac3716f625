"""May A call B, and why: the walk of one request through both sidecars, told step by step."""
