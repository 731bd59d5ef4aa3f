"""Fails like an honest script does."""

raise ValueError("the table has no rows")
