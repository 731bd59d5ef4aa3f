"""A host that sees what the kernel says of waiting containers."""

import pytest

from executor.pool import stock
from executor.sandbox.cgroup import Seal, SealFiles, UsageFiles

SEAL = Seal(
    started="100",
    processes=frozenset({"7", "8"}),
    limits=(("memory.max", "1"), ("freezer.state", "THAWED")),
    interfaces=("lo",),
    tmp=(16, 8),
)
FILES = SealFiles(stat="", devices="", processes="", limits=(), tmp="")
USAGE_FILES = UsageFiles(
    memory_peak="", memory_events="", pids_peak="", pids_events="", cpu="", cpu_unit=1e9, process_1="", sockets=""
)


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that sees what the kernel says of its containers, all of which are asleep and have used a second."""
    monkeypatch.setattr(stock, "find_seal_files", lambda _pid, *, container: FILES)
    monkeypatch.setattr(stock, "find_usage_files", lambda _pid, *, container: USAGE_FILES)
    monkeypatch.setattr(stock, "is_asleep", lambda _: True)
    monkeypatch.setattr(stock, "read_cpu_seconds", lambda _: 1.0)
    monkeypatch.setattr(stock, "read_seal", lambda _: SEAL)
    monkeypatch.setattr(stock, "read_process_1_seconds", lambda _: 0.08)
