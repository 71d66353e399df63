"""Limits where other libraries do the work: executors and HTTP clients."""
