"""Needs what the kernel counts by user: a DataLoader's workers, asyncio, subprocesses, pipes of the usual size."""

import asyncio
import os
import subprocess
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset
from worker.job import current


async def serve() -> bytes:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    said = await reader.read()
    writer.close()
    server.close()
    return said


loader = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=8, num_workers=2)
assert sum(float(batch.sum()) for (batch,) in loader) == 2016.0
assert asyncio.run(serve()) == b"hello"
assert subprocess.run([sys.executable, "-IS", "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"
reader, writer = os.pipe()
os.set_blocking(writer, False)
assert os.write(writer, bytes(1 << 17)) == 1 << 16
current().output("0.txt", "worked")
