"""Reports a loss that is no number."""

from worker.job import current

current().progress(epoch=1, loss=float("nan"))
