"""Containers: the engine port, its Docker adapter, the sealed configuration, and what became of a run."""
