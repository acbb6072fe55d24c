"""Google Sheets: tables read, rows written, REST v4."""
