"""The Trade Desk: reports as files of MyReports (API v3), or by GraphQL on demand."""
