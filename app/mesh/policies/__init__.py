"""Policy objects beside access and splits: one module per kind, each objects → one frozen part."""
