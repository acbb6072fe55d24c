"""Async steps over ports: two awaits in order, no adapter and no client library."""
