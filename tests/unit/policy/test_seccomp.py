"""The system call filters: what was seen to be needed is there, what is denied on purpose is not."""

import json
from typing import Any

import pytest

from policy.load import FOLDER, load_policy

# Seen 2026-11 with strace: a training step, convolution, sparse products, a DataLoader with two workers, save and load.
MEASURED = """
accept4 access arch_prctl bind brk clock_nanosleep clone clone3 close connect dup epoll_create1 execve fadvise64
fallocate fcntl fstat ftruncate futex getcwd getdents64 getpid getppid getrandom getsockname gettid ioctl link listen
lseek madvise mkdir mmap mprotect munmap newfstatat open openat pipe2 poll prctl pread64 prlimit64 read readlink recvmsg
rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_setaffinity sendmsg set_robust_list
set_tid_address setsockopt socket stat sysinfo uname unlink wait4 waitid write writev
""".split()
DENIED = """
memfd_create memfd_secret ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd pidfd_send_signal kcmp
io_uring_setup io_uring_enter io_uring_register userfaultfd bpf perf_event_open keyctl add_key request_key unshare setns
mount umount umount2 pivot_root chroot fsopen fsmount fsconfig fspick move_mount open_tree mount_setattr mknod mknodat
name_to_handle_at open_by_handle_at vmsplice splice tee modify_ldt personality iopl ioperm init_module finit_module
delete_module kexec_load kexec_file_load reboot swapon swapoff settimeofday clock_settime adjtimex syslog acct quotactl
""".split()
FILTERS = ("cpu", "cuda", "gvisor", "egress")
CUDA_ADDS = {"mbind", "move_pages", "mlockall", "munlockall"}
CLONE_NEW = 0x7E020000  # every CLONE_NEW* flag of clone(2)


def profile(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "seccomp" / f"{name}.json").read_text())
    return document


def plain(name: str) -> set[str]:
    """Names that are allowed whatever their arguments are."""
    return {
        n
        for rule in profile(name)["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for n in rule["names"]
    }


def mentioned(name: str) -> set[str]:
    return {n for rule in profile(name)["syscalls"] for n in rule["names"]}


def rules(name: str, call: str) -> list[dict[str, Any]]:
    return [rule for rule in profile(name)["syscalls"] if call in rule["names"]]


@pytest.mark.parametrize("name", FILTERS)
def test_what_torch_was_seen_to_call_is_there(name: str) -> None:
    assert len(set(MEASURED)) == 66
    assert set(MEASURED) <= mentioned(name)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("call", DENIED)
def test_what_is_denied_on_purpose_is_in_no_rule(name: str, call: str) -> None:
    assert call not in mentioned(name)


@pytest.mark.parametrize("name", FILTERS)
def test_what_is_not_named_is_an_error_and_no_kill(name: str) -> None:
    document = profile(name)
    assert (document["defaultAction"], document["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert document["architectures"] == ["SCMP_ARCH_X86_64"]  # and with it no socketcall and no other numbers


class Simulator:
    """What a filter answers a call: as libseccomp compares, each argument as a register of 64 bits."""

    def __init__(self, name: str) -> None:
        self._rules = profile(name)["syscalls"]

    def allows(self, call: str, *arguments: int) -> bool:
        return any(
            all(self._holds(condition, arguments) for condition in rule.get("args", ()))
            for rule in self._rules
            if call in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"
        )

    @staticmethod
    def _holds(condition: dict[str, Any], arguments: tuple[int, ...]) -> bool:
        argument = arguments[condition["index"]] & (1 << 64) - 1
        if condition["op"] == "SCMP_CMP_EQ":
            return bool(argument == condition["value"])
        assert condition["op"] == "SCMP_CMP_MASKED_EQ", "no other is used"
        return bool(argument & condition["value"] == condition["valueTwo"])


UNIX, INET, INET6, STREAM, DGRAM, CLOEXEC, NONBLOCK = 1, 2, 10, 1, 2, 0o2000000, 0o4000
SOL_SOCKET, TCP, IPV6, IP, MPTCP = 1, 6, 41, 0, 262
ALLOWED: list[tuple[str, tuple[int, ...]]] = [
    *(("socket", (UNIX, kind, 0)) for kind in (STREAM, DGRAM, STREAM | CLOEXEC | NONBLOCK)),
    *(("socket", (f, STREAM | flags, p)) for f in (INET, INET6) for flags in (0, CLOEXEC, NONBLOCK) for p in (0, TCP)),
    ("socketpair", (UNIX, STREAM | CLOEXEC, 0, 0)),
    *(("setsockopt", (3, SOL_SOCKET, option)) for option in (2, 9, 13, 15, 20, 21)),
    *(("setsockopt", (3, TCP, option)) for option in (1, 3, 4, 5, 6, 12, 18)),
    ("setsockopt", (3, IPV6, 26)),
    *(("fcntl", (3, command)) for command in (0, 1, 2, 3, 4, 1030)),
    *(("ioctl", (3, command)) for command in (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    *(("prctl", (option,)) for option in (1, 2, 3, 4, 15, 16, 38, 39)),
    ("setpriority", (0, 0, 5)),
    *(("sched_setaffinity", (number,)) for number in (0, 2, 3, 4, 7, 1023, 4194302, 4194303)),
    *((call, (3, 0, flags, flags)) for call in ("sendto", "sendmsg", "sendmmsg") for flags in (0, 0x4000, 0x40)),
    ("clone", (0x003D0F00,)),
    ("prlimit64", (0, 7)),
]
REFUSED: list[tuple[str, tuple[int, ...]]] = [
    *(("socket", (family, STREAM, 0)) for family in (0, 3, 9, 16, 17, 38, 40, 43, 44, INET | 1 << 32)),
    *(("socket", (f, kind, 0)) for f in (INET, INET6) for kind in (DGRAM, 3, 5, 6, 10, DGRAM | CLOEXEC)),
    *(("socket", (f, STREAM, protocol)) for f in (INET, INET6) for protocol in (1, 17, 132, 136, 255, MPTCP)),
    ("socketpair", (INET, STREAM, 0, 0)),
    # Filters of its own, marks, devices, buffers beyond the system's, zero copy, time stamps, in that order.
    *(("setsockopt", (3, SOL_SOCKET, option)) for option in (26, 50, 36, 25, 32, 33, 7, 8, 60, 37)),
    *(("setsockopt", (3, IP, option)) for option in (10, 11, 35, 36, 39, 42, 46, 64)),
    *(("setsockopt", (3, IPV6, option)) for option in (20, 27, 35, 42, 46, 64)),
    *(("setsockopt", (3, TCP, option)) for option in (13, 14, 19, 23, 31, 35)),
    *(("fcntl", (3, command)) for command in (5, 6, 7, 8, 10, 36, 37, 38, 1024, 1026, 1031, 1033, 6 | 1 << 32)),
    *(("ioctl", (3, command)) for command in (0x5402, 0x5412, 0x5452, 0x8933, 0x40049409)),
    *(("prctl", (option,)) for option in (22, 24, 29, 35, 36, 47, 59, 0x53564D41)),
    *(("setpriority", arguments) for arguments in ((0, 1, 19), (1, 0, 19), (2, 0, 19))),
    *(("sched_setaffinity", (number,)) for number in (1, 1 << 32 | 1, 5 << 32 | 1, 1 << 22 | 1, -1)),
    *((call, (3, 0, 1, 1)) for call in ("sendto", "sendmsg", "sendmmsg")),
    *(("clone", (1 << bit,)) for bit in range(64) if 1 << bit & CLONE_NEW),
    *(("prlimit64", (number, 7)) for number in (1, 2, 1 << 32)),
    *((call, (0, 0, 0, 0)) for call in ("inotify_init1", "timer_create", "timerfd_create", "rt_sigqueueinfo", "flock")),
    *((call, (0, 0, 0, 0)) for call in ("rt_tgsigqueueinfo", "futex_waitv", "membarrier", "semget", "clone3")),
]


@pytest.mark.parametrize("name", FILTERS)
def test_of_a_call_that_is_filtered_by_argument_what_was_seen_is_allowed(name: str) -> None:
    simulator = Simulator(name)
    assert [call for call in ALLOWED if not simulator.allows(call[0], *call[1])] == []


@pytest.mark.parametrize("name", FILTERS)
def test_of_a_call_that_is_filtered_by_argument_the_rest_is_refused(name: str) -> None:
    simulator = Simulator(name)
    through = {call for call, arguments in REFUSED if simulator.allows(call, *arguments)}
    assert through == {"cuda": {"ioctl"}, "gvisor": {"clone3"}}.get(name, set())


@pytest.mark.parametrize("name", FILTERS)
def test_calls_that_are_filtered_by_argument_are_allowed_in_no_other_rule(name: str) -> None:
    filtered = {n for rule in profile(name)["syscalls"] if rule.get("args") for n in rule["names"]}
    assert not filtered & plain(name)
    assert filtered | ({"ioctl"} if name == "cuda" else set()) == {call for call, _ in ALLOWED}


@pytest.mark.parametrize(("name", "call"), [("cpu", "clone3"), ("cuda", "clone3"), *((n, "flock") for n in FILTERS)])
def test_what_a_program_would_wait_for_says_that_it_is_not_there(name: str, call: str) -> None:
    """The C library falls back to clone, and filelock gives up, where EPERM would have it try again for ever."""
    (rule,) = rules(name, call)
    assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_cuda_is_cpu_and_four_names_more_and_every_ioctl() -> None:
    assert plain("cuda") - plain("cpu") == CUDA_ADDS | {"ioctl"}
    assert plain("cpu") - plain("cuda") == set()
    special = [
        [r for r in profile(name)["syscalls"] if (r.get("args") or r["action"] != "SCMP_ACT_ALLOW")]
        for name in ("cpu", "cuda")
    ]
    assert [r for r in special[0] if r["names"] != ["ioctl"]] == special[1]


def test_gvisor_is_cpu_and_a_call_that_it_does_not_have() -> None:
    """It answers EPERM where a filter says ENOSYS, and the C library then starts no thread (2022-12)."""
    assert plain("gvisor") - plain("cpu") == {"clone3"}
    assert plain("cpu") - plain("gvisor") == set()
    cpu = [r for r in profile("cpu")["syscalls"][1:] if r["names"] != ["clone3"]]
    assert cpu == profile("gvisor")["syscalls"][1:]


def test_the_filter_of_the_proxy_is_cpu_and_the_socket_that_squid_asks_names_with() -> None:
    """It does not start without one. There is nobody to ask: it is told loopback, where nothing listens."""
    assert plain("egress") == plain("cpu")
    more = [r for r in profile("egress")["syscalls"] if r not in profile("cpu")["syscalls"]]
    assert [r["comment"] for r in more] == ["AF_INET, SOCK_DGRAM with or without its flags, IPPROTO_UDP"]
    simulator = Simulator("egress")
    assert simulator.allows("socket", INET, DGRAM | CLOEXEC, 17)
    assert not simulator.allows("socket", INET6, DGRAM, 17)
    assert not simulator.allows("socket", INET, DGRAM, 1)


def test_each_profile_uses_the_filter_of_its_image() -> None:
    used = {name: load_policy(name).profile.seccomp for name in ("standard", "onnx-standard", "crun", "gvisor", "cuda")}
    assert used == {"standard": "cpu", "onnx-standard": "cpu", "crun": "cpu", "gvisor": "gvisor", "cuda": "cuda"}


def test_every_family_that_is_denied_is_explained() -> None:
    text = (FOLDER / "seccomp/README.md").read_text()
    for word in (
        *("AF_ALG", "AF_VSOCK", "io_uring", "memfd", "ptrace", "userfaultfd", "keyctl", "CLONE_NEW", "mount", "bpf"),
        *("clone3", "mknod", "open_by_handle_at", "splice", "personality", "prlimit64", "perf_event_open"),
        *("setsockopt", "fcntl", "ioctl", "prctl", "setpriority", "sched_setaffinity", "inotify", "timer_create"),
        *("rt_sigqueueinfo", "flock", "MSG_OOB", "membarrier", "semget", "futex_waitv", "/dev/pts"),
    ):
        assert word in text, word
