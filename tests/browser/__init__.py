"""The pages of a small sweep, as a person looks at them in a browser."""
