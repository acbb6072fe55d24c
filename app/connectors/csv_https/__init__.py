"""Reports that a server of one's own offers as CSV files over HTTPS."""
