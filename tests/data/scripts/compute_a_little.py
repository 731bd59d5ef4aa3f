"""Computes at a fiftieth of one core, and says nothing. What it could not compute in time it computes later."""

import time

from worker.job import current

began, spent = time.monotonic(), time.process_time()
while (passed := time.monotonic() - began) < 15:
    while time.process_time() - spent < 0.02 * passed:
        pass
    time.sleep(0.05)
current().output("0.txt", f"{time.process_time() - spent} s", role="data")
