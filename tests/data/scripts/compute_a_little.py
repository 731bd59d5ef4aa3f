"""Computes at a fiftieth of one core, and says nothing."""

import time

from worker.job import current

end, spent = time.monotonic() + 12, time.process_time()
while time.monotonic() < end:
    goal = time.process_time() + 0.002
    while time.process_time() < goal:
        pass
    time.sleep(0.098)
current().output("0.txt", f"{time.process_time() - spent} s", role="data")
