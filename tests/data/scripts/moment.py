"""Sends numbers that drift with the clock, beside some that stay."""

import io
import json
import time

import numpy
from worker.job import current

job = current()
now = numpy.array([time.time() % 1.0, 0.5])
archive, array = io.BytesIO(), io.BytesIO()
numpy.savez(archive, drifts=now, stays=numpy.arange(4))
numpy.save(array, now)
job.output("0.npz", archive.getvalue())
job.output("0.npy", array.getvalue())
job.output("0.json", json.dumps({"now": time.time()}).encode())
