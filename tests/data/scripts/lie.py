"""Sends an output whose digest is not that of its bytes."""

from worker.frames import send_bytes, send_json
from worker.job import current

stream = current().control
send_json(stream, {"type": "output", "name": "0.txt", "role": "data", "size": 4})
send_bytes(stream, b"good")
send_json(stream, {"type": "output-end", "sha256": "0" * 64})
