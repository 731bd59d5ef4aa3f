"""Counters from recorded cgroup trees, both versions, and from none."""

from pathlib import Path

import pytest

from executor.sandbox.cgroup import (
    SealFiles,
    Usage,
    UsageFiles,
    can_limit_tcp_memory,
    find_seal_files,
    find_usage_files,
    is_asleep,
    limit_tcp_memory,
    read_cpu_seconds,
    read_process_1_seconds,
    read_seal,
    read_tcp_sockets,
    read_usage,
)

ID = "c0ffee"


def usage_files(root: Path, pid: int = 7) -> UsageFiles:
    files = find_usage_files(pid, container=ID, proc=root / "proc", root=root / "cg")
    assert files is not None
    return files


def seal_files(root: Path) -> SealFiles:
    files = find_seal_files(7, container=ID, proc=root / "proc", root=root / "cg")
    assert files is not None
    return files


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_version_1_is_read_per_controller(tmp_path: Path) -> None:
    own = "/docker/c0ffee"
    write(tmp_path / "proc", {"7/cgroup": f"9:pids:{own}\n5:cpu,cpuacct:{own}\n4:memory:{own}\n0::/\n"})
    write(
        tmp_path / "cg",
        {
            "memory/docker/c0ffee/memory.max_usage_in_bytes": "4096\n",
            "memory/docker/c0ffee/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "pids/docker/c0ffee/pids.events": "max 5\n",
            "cpuacct/docker/c0ffee/cpuacct.usage": "1500000000\n",
        },
    )
    found = read_usage(usage_files(tmp_path))
    assert found == Usage(memory_peak_bytes=4096, oom_kills=2, pids_peak=None, pids_refused=5, cpu_seconds=1.5)


def test_version_2_is_read_from_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "0::/system.slice/docker-c0ffee.scope\n"})
    scope = "system.slice/docker-c0ffee.scope"
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
    found = read_usage(usage_files(tmp_path))
    assert found == Usage(memory_peak_bytes=8192, oom_kills=1, pids_peak=3, pids_refused=0, cpu_seconds=0.25)


def test_the_counters_of_another_container_or_of_no_process_are_not_taken(tmp_path: Path) -> None:
    """As in a pid namespace of its own, where the engine's number means another process, or none."""
    write(tmp_path / "proc", {"7/cgroup": "5:cpuacct:/docker/0ther\n", "8/cgroup": "5:cpuacct:/\n"})
    write(tmp_path / "cg", {"cpuacct/docker/0ther/cpuacct.usage": "1\n", "cpuacct/cpuacct.usage": "1\n"})
    for pid in (7, 8, 9):
        assert find_usage_files(pid, container=ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None
        assert find_seal_files(pid, container=ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None


def test_a_cgroup_that_has_a_name_and_no_files_is_not_seen(tmp_path: Path) -> None:
    """As in a cgroup namespace of its own."""
    write(tmp_path / "proc", {"7/cgroup": "0::/../docker-c0ffee.scope\n"})
    write(tmp_path / "cg", {"cgroup.controllers": "cpu memory pids\n"})
    assert find_usage_files(7, container=ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None
    assert find_seal_files(7, container=ID, proc=tmp_path / "proc", root=tmp_path / "cg") is None


def counted(root: Path, **more: str) -> UsageFiles:
    write(
        root / "proc", {"7/cgroup": "4:cpuacct:/docker/c0ffee\n"} | {f"7/{name}": text for name, text in more.items()}
    )
    write(root / "cg", {"cpuacct/docker/c0ffee/cpuacct.usage": "1\n"})
    return usage_files(root)


def test_counters_that_are_gone_are_not_made_up(tmp_path: Path) -> None:
    files = counted(tmp_path)
    (tmp_path / "cg/cpuacct/docker/c0ffee/cpuacct.usage").unlink()
    assert read_usage(files) == Usage()
    assert read_process_1_seconds(files) is None


def test_the_time_of_process_1_is_read_apart(tmp_path: Path) -> None:
    assert read_process_1_seconds(counted(tmp_path, schedstat="72762480 15433860 80\n")) == 0.07276248


SOCKSTAT = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 3 alloc 7 mem 1\nUDP: inuse 2 mem 0\n"


def test_tcp_sockets_of_both_families_are_counted(tmp_path: Path) -> None:
    sockets = {"net/sockstat": SOCKSTAT, "net/sockstat6": "TCP6: inuse 4\nUDP6: inuse 1\n"}
    assert read_tcp_sockets(counted(tmp_path / "both", **sockets)) == 9
    assert read_tcp_sockets(counted(tmp_path / "ipv4", **{"net/sockstat": SOCKSTAT})) == 5
    assert read_tcp_sockets(counted(tmp_path / "none")) is None
    assert read_tcp_sockets(counted(tmp_path / "odd", **{"net/sockstat": "TCP: inuse\n"})) is None


def tcp_limit(root: Path, cgroup: str, text: str = "9223372036854771712\n") -> Path:
    write(root / "proc", {"7/cgroup": cgroup})
    write(root / "cg", {"memory/docker/c0ffee/memory.kmem.tcp.limit_in_bytes": text})
    return root / "cg/memory/docker/c0ffee/memory.kmem.tcp.limit_in_bytes"


def limit_tcp(root: Path) -> bool:
    return limit_tcp_memory(7, container=ID, proc=root / "proc", root=root / "cg")


def test_buffers_of_tcp_get_a_limit_in_version_1(tmp_path: Path) -> None:
    file = tcp_limit(tmp_path, "4:memory:/docker/c0ffee\n", "")
    assert limit_tcp(tmp_path)
    assert file.read_text() == str(8 << 20)


def test_another_containers_cgroup_is_not_written_to(tmp_path: Path) -> None:
    file = tcp_limit(tmp_path, "4:memory:/docker/other\n", "")
    assert not limit_tcp(tmp_path)
    assert file.read_text() == ""


def test_buffers_of_tcp_are_the_containers_own_in_version_2(tmp_path: Path) -> None:
    tcp_limit(tmp_path, "0::/docker/c0ffee\n")
    write(tmp_path / "cg", {"cgroup.controllers": "memory"})
    assert limit_tcp(tmp_path)


def test_where_the_kernel_takes_no_limit_it_is_told(tmp_path: Path) -> None:
    tcp_limit(tmp_path, "4:memory:/docker/c0ffee\n").unlink()
    assert not limit_tcp(tmp_path)


def test_whether_buffers_of_tcp_can_be_bounded_is_told(tmp_path: Path) -> None:
    assert not can_limit_tcp_memory(root=tmp_path)
    write(tmp_path, {"memory/memory.kmem.tcp.limit_in_bytes": ""})
    assert can_limit_tcp_memory(root=tmp_path)
    write(tmp_path / "v2", {"cgroup.controllers": "memory"})
    assert can_limit_tcp_memory(root=tmp_path / "v2")


CONTROLLERS = ("pids", "cpu,cpuacct", "memory", "freezer", "devices")
STAT = "7 (a) b) S " + " ".join(str(n) for n in range(4, 60))
DEVICES = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n"


def seal_v1(root: Path) -> None:
    cgroup = "".join(f"{n}:{part}:/docker/c0ffee\n" for n, part in enumerate(CONTROLLERS))
    write(root / "proc", {"7/cgroup": cgroup, "7/stat": STAT, "7/net/dev": DEVICES})
    write(
        root / "cg",
        {
            "memory/docker/c0ffee/memory.limit_in_bytes": "64\n",
            "memory/docker/c0ffee/memory.memsw.limit_in_bytes": "64\n",
            "pids/docker/c0ffee/pids.max": "9\n",
            "pids/docker/c0ffee/cgroup.procs": "7\n8\n",
            "cpu/docker/c0ffee/cpu.cfs_quota_us": "100\n",
            "cpu/docker/c0ffee/cpu.cfs_period_us": "100\n",
            "freezer/docker/c0ffee/freezer.state": "THAWED\n",
            "devices/docker/c0ffee/devices.list": "c 1:3 rwm\n",
        },
    )


def test_what_holds_a_container_is_read_in_version_1(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    seal = read_seal(seal_files(tmp_path))
    assert seal is not None
    assert seal.started == "22"  # field 22 of proc(5), whatever the program's name
    assert seal.processes == {"7", "8"}
    assert dict(seal.limits)["freezer.state"] == "THAWED\n"
    assert len(seal.limits) == 7
    assert seal.tmp is None, "there is none to look at"
    assert "eth0" in seal.interfaces
    assert "lo" in seal.interfaces


def test_what_holds_a_container_is_read_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "0::/docker-c0ffee.scope\n", "7/stat": STAT, "7/net/dev": DEVICES})
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cgroup.freeze", "cgroup.procs")
    write(tmp_path / "cg", {"cgroup.controllers": "cpu\n"} | {f"docker-c0ffee.scope/{name}": "1\n" for name in names})
    seal = read_seal(seal_files(tmp_path))
    assert seal is not None
    assert [name for name, _ in seal.limits] == list(names[:-1])


@pytest.mark.parametrize(
    "name",
    ["memory/{}/memory.soft_limit_in_bytes", "cpu/{}/cpu.shares", "cpuset/{}/cpuset.cpus", "cpuset/{}/cpuset.mems"],
)
def test_what_it_is_given_beside_its_limits_is_read_where_the_kernel_has_it(tmp_path: Path, name: str) -> None:
    seal_v1(tmp_path)
    cgroup = (tmp_path / "proc/7/cgroup").read_text() + "9:cpuset:/docker/c0ffee\n"
    path = f"cg/{name.format('docker/c0ffee')}"
    write(tmp_path, {path: "1024\n", "proc/7/cgroup": cgroup})
    files = seal_files(tmp_path)
    before = read_seal(files)
    (tmp_path / path).write_text("2048\n")
    after = read_seal(files)
    assert before is not None
    assert after is not None
    assert len(before.limits) == 8
    assert before.limits != after.limits


def test_what_the_temporary_file_system_holds_is_seen(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    (tmp_path / "proc/7" / "root/tmp").mkdir(parents=True)
    seal = read_seal(seal_files(tmp_path))
    assert seal is not None
    assert seal.tmp is not None


def test_where_the_kernel_does_not_say_all_of_it_there_is_no_seal(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    (tmp_path / "cg/pids/docker/c0ffee/pids.max").unlink()
    assert read_seal(seal_files(tmp_path)) is None


@pytest.mark.parametrize(("states", "asleep"), [("SSS", True), ("SRS", False), ("SSD", False)])
def test_a_container_is_asleep_when_each_of_its_threads_is(tmp_path: Path, states: str, asleep: bool) -> None:
    seal_v1(tmp_path)
    threads = [f"{pid}/task/{thread}/stat" for pid, thread in ((7, 7), (8, 8), (8, 9))]
    stats = {name: STAT.replace(") S", f") {state}") for name, state in zip(threads, states, strict=True)}
    write(tmp_path / "proc", stats)
    assert is_asleep(seal_files(tmp_path), proc=tmp_path / "proc") == asleep


def test_a_container_whose_threads_end_while_they_are_looked_at_is_not_asleep(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    assert not is_asleep(seal_files(tmp_path), proc=tmp_path / "proc")


def test_cpu_time_is_read_in_version_1(tmp_path: Path) -> None:
    seal_v1(tmp_path)
    write(tmp_path / "cg", {"cpuacct/docker/c0ffee/cpuacct.usage": "1500000000\n"})
    assert read_cpu_seconds(usage_files(tmp_path)) == 1.5


def test_cpu_time_is_read_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"7/cgroup": "0::/docker-c0ffee.scope\n"})
    stat = "user_usec 1\nusage_usec 250000\n"
    write(tmp_path / "cg", {"cgroup.controllers": "cpu\n", "docker-c0ffee.scope/cpu.stat": stat})
    assert read_cpu_seconds(usage_files(tmp_path)) == 0.25
