"""Tasks in a NATS JetStream stream."""
