"""The system call filters: what torch needs is there, what is denied on purpose is not, and cuda adds four names."""

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


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_what_torch_was_seen_to_call_is_there(name: str) -> None:
    assert len(set(MEASURED)) == 66
    assert set(MEASURED) <= mentioned(name)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
@pytest.mark.parametrize("call", DENIED)
def test_what_is_denied_on_purpose_is_in_no_rule(name: str, call: str) -> None:
    assert call not in mentioned(name)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_what_is_not_named_is_an_error_and_no_kill(name: str) -> None:
    document = profile(name)
    assert (document["defaultAction"], document["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert document["architectures"] == ["SCMP_ARCH_X86_64"]  # and with it no socketcall and no other numbers


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_calls_that_are_filtered_by_argument_are_allowed_in_no_other_rule(name: str) -> None:
    families = [rule["args"] for rule in rules(name, "socket")]
    assert sorted(args[0]["value"] for args in families) == [1, 2, 10]
    assert {(args[0]["index"], args[0]["op"]) for args in families} == {(0, "SCMP_CMP_EQ")}
    ((clone,),) = [rule["args"] for rule in rules(name, "clone")]
    assert (clone["index"], clone["value"], clone["valueTwo"], clone["op"]) == (0, CLONE_NEW, 0, "SCMP_CMP_MASKED_EQ")
    (clone3,) = rules(name, "clone3")
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    ((limits,),) = [rule["args"] for rule in rules(name, "prlimit64")]
    assert (limits["index"], limits["value"], limits["op"]) == (0, 0, "SCMP_CMP_EQ")
    assert not {"socket", "clone", "clone3", "prlimit64"} & plain(name)


def test_cuda_is_cpu_and_four_names_more() -> None:
    assert plain("cuda") - plain("cpu") == CUDA_ADDS
    assert plain("cpu") - plain("cuda") == set()
    special = [
        [r for r in profile(name)["syscalls"] if r.get("args") or r["action"] != "SCMP_ACT_ALLOW"]
        for name in ("cpu", "cuda")
    ]
    assert special[0] == special[1]


def test_each_profile_uses_the_filter_of_its_image() -> None:
    used = {name: load_policy(name).profile.seccomp for name in ("standard", "onnx-standard", "crun", "gvisor", "cuda")}
    assert used == {"standard": "cpu", "onnx-standard": "cpu", "crun": "cpu", "gvisor": "cpu", "cuda": "cuda"}


def test_every_family_that_is_denied_is_explained() -> None:
    text = (FOLDER / "seccomp/README.md").read_text()
    for word in (
        *("AF_ALG", "AF_VSOCK", "io_uring", "memfd", "ptrace", "userfaultfd", "keyctl", "CLONE_NEW", "mount", "bpf"),
        *("clone3", "mknod", "open_by_handle_at", "splice", "personality", "prlimit64", "perf_event_open"),
    ):
        assert word in text, word
