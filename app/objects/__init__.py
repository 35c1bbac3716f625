"""Kubernetes objects as typed, read-only views."""
