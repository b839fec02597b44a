"""Facts about one training run."""
