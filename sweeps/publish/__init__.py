"""What a sweep leaves in MLflow for its readers."""
