"""REST on one port: one file per resource, problem+json for every error, bearer tokens."""
