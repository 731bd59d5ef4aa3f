"""Prints without end."""

while True:
    print("y" * 65536)
