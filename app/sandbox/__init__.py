"""A provider simulator: a real HTTP server that behaves as the providers do, for tests, demos and figures."""
