"""Facts about the project."""
