"""Sleeps past any limit, and will not be asked to stop."""

import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("sleeping")
time.sleep(3600)
