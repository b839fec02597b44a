"""Sweeps on a real PostgreSQL, a real MLflow server and several hosts, all on this machine."""
