"""Counters from recorded cgroup trees, both versions, and from none."""

from pathlib import Path

from executor.sandbox.cgroup import Usage, read_usage


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_version_1_is_read_per_controller(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "9:pids:/docker/c\n5:cpu,cpuacct:/docker/c\n4:memory:/docker/c\n0::/\n"})
    write(
        tmp_path / "cg",
        {
            "memory/docker/c/memory.max_usage_in_bytes": "4096\n",
            "memory/docker/c/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "pids/docker/c/pids.events": "max 5\n",
            "cpuacct/docker/c/cpuacct.usage": "1500000000\n",
        },
    )
    found = read_usage(7, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert found == Usage(memory_peak_bytes=4096, oom_kills=2, pids_peak=None, pids_refused=5, cpu_seconds=1.5)


def test_version_2_is_read_from_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "0::/system.slice/docker-c.scope\n"})
    scope = "system.slice/docker-c.scope"
    write(
        tmp_path / "cg",
        {
            "cgroup.controllers": "cpu memory pids\n",
            f"{scope}/memory.peak": "8192\n",
            f"{scope}/memory.events": "low 0\noom 1\noom_kill 1\n",
            f"{scope}/pids.peak": "3\n",
            f"{scope}/pids.events": "max 0\n",
            f"{scope}/cpu.stat": "usage_usec 250000\nuser_usec 1\n",
        },
    )
    found = read_usage(7, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert found == Usage(memory_peak_bytes=8192, oom_kills=1, pids_peak=3, pids_refused=0, cpu_seconds=0.25)


def test_no_number_is_made_up_for_a_process_that_has_gone(tmp_path: Path) -> None:
    assert read_usage(7, proc=tmp_path, root=tmp_path) == Usage()


def test_a_process_outside_of_any_container_is_not_measured(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "4:memory:/\n"})
    write(tmp_path / "cg", {"memory/memory.max_usage_in_bytes": "1\n"})
    assert read_usage(7, proc=tmp_path / "proc", root=tmp_path / "cg") == Usage()
