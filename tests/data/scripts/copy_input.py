"""Sends its input as it is."""

from worker.job import current

job = current()
job.output("0.txt", job.inputs["table"])
