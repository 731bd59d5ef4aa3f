"""Attempts to break out of the sandbox, for `doctor --deep` and for the tests. Each must fail for its stated reason."""
