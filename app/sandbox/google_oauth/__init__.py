"""Google's token endpoint, as far as a client can tell."""
