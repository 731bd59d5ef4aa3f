"""Sends outputs without end."""

from worker.job import current

for index in range(10**9):
    current().output(f"{index % 10}.txt", "x" * (1 << 20), role="data")
