"""How a sweep begins, continues, and recovers lost trials."""
