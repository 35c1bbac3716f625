"""Pods as local processes: one machine as a cluster."""
