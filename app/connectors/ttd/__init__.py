"""The Trade Desk: reports as files of MyReports (API v3)."""
