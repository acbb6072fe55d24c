"""Grants in use: credentials encrypted at rest, access tokens, and the way to token endpoints."""
