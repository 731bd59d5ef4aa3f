"""Sends an output that the job file does not declare."""

from worker.job import current

current().output("../../etc/passwd", "root::0:0::/:/bin/sh", role="data")
