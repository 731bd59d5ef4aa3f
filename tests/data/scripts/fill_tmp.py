"""Fills the temporary folder without end; the job's own error is what it gets."""

with open("/tmp/fill", "wb") as file:
    while True:
        file.write(b"x" * (1 << 20))
