"""Sends one output that is larger than allowed, in honest frames."""

from worker.job import current

current().output("0.txt", "x" * (64 << 20), role="data")
