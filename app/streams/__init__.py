"""What knows Kafka: wire formats, codecs, topics, views."""
