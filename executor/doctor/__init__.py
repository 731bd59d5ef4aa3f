"""What a run needs of this host, checked by doing it, and attempts to break out of the sandbox."""
