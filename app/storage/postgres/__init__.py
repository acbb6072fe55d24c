"""PostgreSQL: connectors and grants (durable truth), history of requests. One file per table; SQL lies in ``sql/``."""
