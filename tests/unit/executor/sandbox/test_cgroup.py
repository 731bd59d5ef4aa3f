"""Counters from recorded cgroup trees, both versions, and from none."""

from pathlib import Path

from executor.sandbox.cgroup import Usage, find_seal_files, read_cpu_seconds, read_seal, read_usage


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


STAT = "7 (a) b) S " + " ".join(str(n) for n in range(4, 60))
DEVICES = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n"


def seal_v1(root: Path) -> None:
    cgroup = "9:pids:/docker/c\n5:cpu,cpuacct:/docker/c\n4:memory:/docker/c\n3:freezer:/docker/c\n2:devices:/docker/c\n"
    write(root / "proc", {"7/cgroup": cgroup, "7/stat": STAT, "7/net/dev": DEVICES})
    write(
        root / "cg",
        {
            "memory/docker/c/memory.limit_in_bytes": "64\n",
            "memory/docker/c/memory.memsw.limit_in_bytes": "64\n",
            "pids/docker/c/pids.max": "9\n",
            "pids/docker/c/cgroup.procs": "7\n8\n",
            "cpu/docker/c/cpu.cfs_quota_us": "100\n",
            "cpu/docker/c/cpu.cfs_period_us": "100\n",
            "freezer/docker/c/freezer.state": "THAWED\n",
            "devices/docker/c/devices.list": "c 1:3 rwm\n",
        },
    )


def test_what_holds_a_container_is_read_in_version_1(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    seal = read_seal(find_seal_files(7, proc=tmp_path / "proc", root=tmp_path / "cg"))
    assert seal is not None
    assert seal.started == "22"  # field 22 of proc(5), whatever the program's name
    assert seal.processes == {"7", "8"}
    assert dict(seal.limits)["freezer.state"] == "THAWED\n"
    assert len(seal.limits) == 7
    assert "eth0" in seal.interfaces
    assert "lo" in seal.interfaces


def test_what_holds_a_container_is_read_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "0::/c.scope\n", "7/stat": STAT, "7/net/dev": DEVICES})
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cgroup.freeze", "cgroup.procs")
    write(tmp_path / "cg", {"cgroup.controllers": "cpu\n"} | {f"c.scope/{name}": "1\n" for name in names})
    seal = read_seal(find_seal_files(7, proc=tmp_path / "proc", root=tmp_path / "cg"))
    assert seal is not None
    assert [name for name, _ in seal.limits] == list(names[:-1])


def test_where_the_kernel_does_not_say_all_of_it_there_is_no_seal(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    (tmp_path / "cg/pids/docker/c/pids.max").unlink()
    assert read_seal(find_seal_files(7, proc=tmp_path / "proc", root=tmp_path / "cg")) is None
    assert read_seal(find_seal_files(8, proc=tmp_path / "proc", root=tmp_path / "cg")) is None


def test_cpu_time_is_read_in_both_versions_and_not_made_up(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    one = find_seal_files(7, proc=tmp_path / "proc", root=tmp_path / "cg")
    assert read_cpu_seconds(one) is None
    write(tmp_path / "cg", {"cpuacct/docker/c/cpuacct.usage": "1500000000\n"})
    assert read_cpu_seconds(one) == 1.5
    write(tmp_path / "proc", {"9/cgroup": "0::/c.scope\n"})
    write(tmp_path / "cg", {"cgroup.controllers": "cpu\n", "c.scope/cpu.stat": "user_usec 1\nusage_usec 250000\n"})
    assert read_cpu_seconds(find_seal_files(9, proc=tmp_path / "proc", root=tmp_path / "cg")) == 0.25
