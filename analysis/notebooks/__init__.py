"""The notebooks, and the answers they show."""
