"""What outlives a process: the state directory, the state of runs, and who owns what on the engine and on disk."""
