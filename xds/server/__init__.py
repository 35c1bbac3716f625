"""The gRPC edge: streams, threads and certificates around the protocol."""
