"""One module per kind of job, each with `run(job)`. Imported only in the process that runs it."""
