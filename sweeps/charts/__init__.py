"""The pictures of a sweep and of its trials."""
