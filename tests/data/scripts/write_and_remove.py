"""Writes a large temporary file, computes for some seconds, and removes it."""

import time
from pathlib import Path

from worker.job import current

path = Path("/tmp/large")
path.write_bytes(bytes(20 << 20))
end = time.process_time() + 6
while time.process_time() < end:
    pass
path.unlink()
current().output("0.txt", "done", role="data")
