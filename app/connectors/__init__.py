"""Providers: one package each, over the HTTP room they share (``base``)."""
