"""Facts about sweeps and their records."""
