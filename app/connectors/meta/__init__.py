"""Meta: insights of the Marketing API v26.0, asked for as runs that are polled and read page by page."""
