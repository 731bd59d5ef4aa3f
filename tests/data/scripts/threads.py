"""Threads and forked children that report while outputs are sent: frames must not mix."""

import os
import threading

from worker.job import current

job = current()
over = threading.Event()
BIG = "0123456789abcde\n" * (6 << 16)


def report() -> None:
    count = 0
    while not over.is_set():
        job.progress(step=count)
        count += 1


reporters = [threading.Thread(target=report) for _ in range(3)]
senders = [threading.Thread(target=job.output, args=(f"{name}.txt", BIG)) for name in "ab"]
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        for step in range(500):
            job.progress(child=step)
        os._exit(0)
    children.append(pid)
for thread in (*reporters, *senders):
    thread.start()
for sender in senders:
    sender.join()
over.set()
for reporter in reporters:
    reporter.join()
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children), "a child failed"
job.output("c.txt", "last")
