"""Waits for as long as another run takes, and then sends what it promised."""

import time

from worker.job import current

time.sleep(8)
current().output("greeting.txt", "hello")
