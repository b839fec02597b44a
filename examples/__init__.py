"""Programs on top of `lander` that are run from a checkout: python -m examples.NAME --help."""
