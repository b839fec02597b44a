"""What is recorded of a trial: written to its outbox, then uploaded to MLflow."""
