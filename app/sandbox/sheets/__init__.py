"""Google Sheets: spreadsheets, their values, and developer metadata."""
