"""A server of CSV files."""
