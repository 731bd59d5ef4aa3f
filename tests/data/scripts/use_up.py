"""Uses up what the kernel counts by user, descriptors in flight and pages of pipes, and holds it."""

import array
import errno
import os
import socket
import time
from pathlib import Path

held = []
for _ in range(64):
    a, b = socket.socketpair()
    held += [a, b]
    descriptors = array.array("i", [a.fileno()] * 200)
    try:
        a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    except OSError as err:
        if err.errno != errno.ETOOMANYREFS:
            raise
        break
else:
    raise AssertionError("there is no limit")
children = []
for _ in range(4):
    reader, writer = os.pipe()
    if os.fork() == 0:
        pipes = [os.pipe() for _ in range(400)]
        os.write(writer, b".")
        time.sleep(3600)
        os._exit(0)
    os.read(reader, 1)
reader, writer = os.pipe()
os.set_blocking(writer, False)
pages = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())  # pipe(7): 16 for a pipe; 0 is no limit
if 0 < pages <= 16_384:
    assert os.write(writer, bytes(1 << 17)) < 1 << 16, "pipes are as large as ever"
print("used up", flush=True)
time.sleep(3600)
