"""Tries to write to the root file system."""

open("/escaped", "w").write("x")
