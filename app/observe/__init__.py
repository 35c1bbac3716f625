"""What traffic really does, read from the counters of proxies."""
