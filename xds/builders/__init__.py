"""Policy values to Envoy messages: pure functions, one spec in, one resource out."""
