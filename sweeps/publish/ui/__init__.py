"""One server on this machine for all that a store has to show."""
