"""Ends as many programs do."""

import sys

from worker.job import current

current().output("a.txt", "a")
sys.exit(0)
