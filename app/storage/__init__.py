"""What is kept outside Kafka: PostgreSQL, Redis, result objects."""
