"""The charts of a sweep and of its trials, and the style of all charts."""
