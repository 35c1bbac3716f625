"""The contract between application and Envoy: what a proxy may do, in frozen values."""
