"""The xDS protocol without I/O: requests and updates in, pushes out."""
