"""Typed values and manifests/ to objects, and those into the cluster."""
