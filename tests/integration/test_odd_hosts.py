"""Runs on hosts and for callers that are odd in one way: each ends with the exit code that the README has for it.

Exit 0 and a release that verifies go together in every row.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import until
from tests.integration.conftest import Finished, Host, containers

JOB = ({"name": "greeting.txt"},)
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give folders away")
COMMAND = Path(sys.executable).with_name("executor")


@dataclass
class Odd:
    """One caller: what is odd about it, and the exit code."""

    code: int = 0
    redirect: str = ""  # what a shell is told to do with the descriptors
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ("-I",)
    before: Callable[[], object] = lambda: None


def sink(fault: str) -> str:
    return {"closed": "&-", "full": "/dev/full"}[fault]


CALLERS = {
    **{f"umask {mask:04o}": Odd(before=partial(os.umask, mask)) for mask in (0o007, 0o077, 0o277, 0o777)},
    **{
        f"{'and '.join(names)} {fault}": Odd(redirect=" ".join(f"{number}>{sink(fault)}" for number in numbers))
        for fault in ("closed", "full")
        for names, numbers in ((("stdout",), (1,)), (("stderr",), (2,)), (("stdout ", "stderr"), (1, 2)))
    },
    "no descriptor open": Odd(redirect="0<&- 1>&- 2>&-"),
    "an ASCII locale": Odd(environment=ASCII, options=("-I", "-X", "utf8=0")),
    "SIGCHLD ignored": Odd(before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)),
    "no core, no locked memory": Odd(before=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))),
    "files as large as none": Odd(31, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))),
}


@pytest.mark.parametrize("name", CALLERS)
def test_a_run_of_an_odd_caller_releases_if_and_only_if_it_says_so(host: Host, name: str) -> None:
    odd, target = CALLERS[name], host.folder / "release"
    command = [sys.executable, *odd.options, "-m", "executor", "run", str(host.script_job("hello", *JOB))]
    command += ["--out", str(target), "--json"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {odd.redirect}', "sh", *command],
        capture_output=True,
        text=True,
        env=os.environ | odd.environment,
        preexec_fn=odd.before,
        check=False,
    )
    assert done.returncode == odd.code, done.stderr
    assert target.exists() == (odd.code == 0)
    if odd.code == 0:
        assert host.call("verify", str(target)).code == 0
    if "1>" not in odd.redirect:
        assert json.loads(done.stdout)["exit_code"] == odd.code


@pytest.mark.parametrize("redirect", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_version_needs_no_descriptor(host: Host, redirect: str) -> None:
    shell = ["sh", "-c", f'exec "$@" {redirect}', "sh", *host.command("version")]
    assert subprocess.run(shell, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def gone_pipe(folder: Path) -> Iterator[Path]:
    """A pipe whose reader leaves after the first event."""
    path = folder / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["head", "-n", "1", str(path)], stdout=subprocess.DEVNULL)
    until(lambda: Path(f"/proc/{reader.pid}").exists())
    try:
        yield path
    finally:
        reader.kill()
        reader.wait()


def released_with_a_warning(host: Host, events: Path) -> None:
    target = host.folder / "release"
    job = str(host.script_job("hello", *JOB))
    done = host.call("run", job, "--out", str(target), "--json", "--events", str(events))
    assert done.code == 0, done.stderr
    assert "event stream ended early" in done.json["warnings"][0]
    assert "Traceback" not in done.stderr
    assert host.call("verify", str(target)).code == 0


def test_events_that_cannot_be_written_decide_over_nothing(host: Host) -> None:
    released_with_a_warning(host, Path("/dev/full"))


def test_a_reader_of_events_that_goes_decides_over_nothing(host: Host) -> None:
    with gone_pipe(host.folder) as pipe:
        released_with_a_warning(host, pipe)


def test_a_pipe_that_nobody_reads_or_writes_is_not_waited_for(host: Host) -> None:
    pipe = host.folder / "pipe"
    os.mkfifo(pipe)
    job = host.script_job("hello", *JOB)
    assert host.call("run", str(job), "--events", str(pipe), "--json").json["exit_code"] == 21
    refused = host.call("run", str(pipe), "--json").json
    assert (refused["exit_code"], "nobody wrote" in refused["error"]["message"]) == (21, True)
    shell = f'"$@" <(cat {job}) --json --out {host.folder}/release'
    done = subprocess.run(["bash", "-c", shell, "bash", *host.command("run")], capture_output=True, check=False)
    assert done.returncode == 0, "a pipe that somebody writes is read"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_the_caller_ignores_stays_ignored(host: Host, number: signal.Signals) -> None:
    target = host.folder / "release"
    process = subprocess.Popen(
        host.command("run", str(host.script_job("hello", *JOB)), "--out", str(target), "--json"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert process.stderr is not None
    while "running" not in (line := process.stderr.readline()):
        assert line, "the run ended early"
    process.send_signal(number)
    out, _ = process.communicate(timeout=600)
    assert json.loads(out)["exit_code"] == process.returncode == 0


@pytest.mark.parametrize("inside", ["run/x", "cas/x", "log/x", "x", "trust/x", "run/../run/x"])
def test_a_release_goes_nowhere_in_the_state_directory_but_to_releases(host: Host, home: Path, inside: str) -> None:
    host.call("doctor")  # which makes the folders
    job = host.script_job("hello", *JOB)
    refused = host.call("run", str(job), "--out", str(home / inside), "--json")
    assert (refused.code, "state directory" in refused.json["error"]["message"]) == (21, True)


def test_a_release_in_releases_stays(host: Host, home: Path) -> None:
    (home / "releases").mkdir(parents=True)
    home.chmod(0o700)
    done = host.call("run", str(host.script_job("hello", *JOB)), "--out", str(home / "releases/mine"), "--json")
    assert done.code == 0, done.stderr
    host.call("doctor")
    assert host.call("verify", str(home / "releases/mine")).code == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "read-only"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


PLACES: dict[str, Callable[[Path], Path]] = {
    "a name of 256 bytes": lambda folder: folder / ("n" * 256),
    "a path that is too long": lambda folder: folder / "/".join(["d" * 200] * 25),
    "links in a circle": lambda folder: folder / "loop/release",
    "a link that leads nowhere": lambda folder: folder / "dangling",
    "not Unicode": lambda folder: folder / os.fsdecode(b"r\xff"),
    "in a file": lambda folder: folder / "job-1.json/release",
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_where_no_release_can_be_is_refused_before_anything_starts(host: Host, name: str) -> None:
    job = host.script_job("hello", *JOB)
    (host.folder / "dangling").symlink_to(host.folder / "absent")
    (host.folder / "loop").symlink_to(host.folder / "loop")
    refused = host.call("run", str(job), "--out", str(PLACES[name](host.folder)), "--json")
    assert (refused.code, refused.json["exit_code"]) == (21, 21), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "starting the sealed container" not in refused.stderr


def test_a_name_of_255_bytes_is_a_name(host: Host) -> None:
    target = host.folder / ("n" * 255)
    assert host.call("run", str(host.script_job("hello", *JOB)), "--out", str(target)).code == 0
    assert host.call("verify", str(target)).code == 0


@AS_ROOT
def test_a_read_only_file_system_is_refused_before_anything_starts(host: Host, read_only: Path) -> None:
    refused = host.call("run", str(host.script_job("hello", *JOB)), "--out", str(read_only / "release"), "--json")
    assert (refused.code, "Read-only" in refused.json["error"]["message"]) == (21, True)
    assert "starting the sealed container" not in refused.stderr


@AS_ROOT
@pytest.mark.parametrize(("room", "code"), [("24m", 31), ("96m", 0)])
def test_a_run_starts_where_there_is_room_for_its_release(host: Host, room: str, code: int) -> None:
    """The job may send 32 MiB; a record takes some."""
    folder = host.folder / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)], check=True)
    try:
        done = host.call("run", str(host.script_job("hello", *JOB)), "--out", str(folder / "release"), "--json")
        assert (done.code, done.json["exit_code"]) == (code, code), done.stderr
        assert ("starting the sealed container" in done.stderr) == (code == 0)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_sparse_input_is_refused_by_its_size(host: Host) -> None:
    huge = host.folder / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    job = host.script_job("hello", *JOB, inputs={"greeting": {"uri": str(huge), "sha256": "0" * 64}})
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    refused = host.call("run", str(job), "--json")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (refused.code, "limits.input_bytes" in refused.json["error"]["message"]) == (21, True)
    used = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    assert used < 8, "a second on this machine; to copy and hash the 16 GiB of the limit takes tens"


def deep(folder: Path) -> Path:
    """Make a folder of code that is deeper than a path can be long."""
    top = folder / "deep"
    top.mkdir()
    (top / "main.py").write_text("pass")
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=descriptor)
        inner = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    return top


def an_input(uri: str) -> dict[str, Any]:
    return {"inputs": {"a": {"sha256": "0" * 64, "uri": uri}}}


UNREADABLE: dict[str, Callable[[Path], dict[str, Any]]] = {
    "an input that is a circle of links": lambda folder: an_input(str(folder / "loop")),
    "an input that is not there": lambda folder: an_input(str(folder / "absent")),
    "an input that is a folder": lambda folder: an_input(str(folder)),
    "code that is a circle of links": lambda folder: {"code": {"path": str(folder / "loop")}},
    "code 1,500 folders deep": lambda folder: {"code": {"path": str(deep(folder)), "entry": "main.py"}},
    "code that is a device": lambda folder: {"code": {"path": "/dev/null"}},
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_an_invalid_request(host: Host, name: str) -> None:
    (host.folder / "loop").symlink_to(host.folder / "loop")
    refused = host.call("run", str(host.script_job("hello", *JOB, **UNREADABLE[name](host.folder))), "--json")
    subprocess.run(
        ["rm", "-rf", str(host.folder / "deep")], check=True
    )  # which pytest cannot: it is too deep for Python
    assert (refused.code, refused.json["exit_code"]) == (21, 21), refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("kibibytes", [20_000, 60_000, 131_071, 131_072, 150_000, 300_000])
def test_a_limit_on_memory_is_told_as_one(host: Host, kibibytes: int) -> None:
    target = host.folder / "release"
    command = host.command("run", str(host.script_job("hello", *JOB)), "--out", str(target), "--json")
    shell = ["sh", "-c", f'ulimit -v {kibibytes}; exec "$@"', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    if kibibytes <= 20_000:
        assert not target.exists(), "the interpreter itself does not start"
        return
    assert (done.returncode == 0) == target.exists()
    assert done.returncode in (0, 31), done.stderr
    assert json.loads(done.stdout)["exit_code"] == done.returncode
    assert ("needs 128 MiB of address space" in done.stderr) == (kibibytes < 131_072)
    assert "Traceback" not in done.stderr


@AS_ROOT
def test_a_home_that_others_may_change_is_refused(host: Host, home: Path) -> None:
    home.mkdir()
    for mode, code in ((0o777, 31), (0o770, 31), (0o755, 0)):
        home.chmod(mode)
        done = host.call("run", str(host.script_job("hello", *JOB)), "--json", "--cold")
        assert (done.code, done.json["exit_code"]) == (code, code), done.stderr
    os.chown(home, 65534, 65534)
    refused = host.call("run", str(host.script_job("hello", *JOB)), "--json")
    assert (refused.code, "user 65534" in refused.json["error"]["message"]) == (31, True)


@AS_ROOT
@pytest.mark.parametrize("command", [["version"], ["verify", "release"], ["doctor"], ["plan", "JOB"]])
def test_a_user_without_a_home_is_told_so_or_needs_none(host: Host, command: list[str]) -> None:
    """Neither HOME nor an entry in the table of users, as in a container under a number of its own."""
    named = ("HOME", "EXECUTOR_HOME", "XDG_STATE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    hide = 'for f in passwd nsswitch.conf; do mount --bind /dev/null /etc/$f; done && exec "$@"'
    job = str(host.script_job("hello", *JOB))
    line = ["unshare", "--mount", "sh", "-c", hide, "sh", *host.command(*command, "--json")]
    line = [job if word == "JOB" else word for word in line]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd="/", check=False)
    expected = 0 if command == ["version"] else 21 if command[0] == "verify" else 31
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_heeds_nothing_that_the_environment_says_to_python(host: Host, tmp_path: Path) -> None:
    """As installed: a shell script that starts the Python beside it, cut off from the environment."""
    foreign = tmp_path / "foreign"
    (foreign / "executor").mkdir(parents=True)
    for name in ("executor/__init__.py", "executor/__main__.py", "os.py", "sitecustomize.py", "encodings.py"):
        (foreign / name).write_text("raise SystemExit(99)")
    link = tmp_path / "bin"
    link.symlink_to(COMMAND)
    for environment in (
        {"PYTHONPATH": str(foreign)},
        {"PYTHONHOME": str(foreign)},
        ASCII,
        {"PYTHONSTARTUP": str(foreign / "os.py"), "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error"},
    ):
        for program in (COMMAND, link):
            done = subprocess.run(
                [str(program), "version"], capture_output=True, text=True, env=os.environ | environment, cwd=foreign,
                check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, ""), (environment, done.stderr)


def test_a_run_in_a_home_that_is_not_ascii_signs_in_any_locale(host: Host, tmp_path: Path) -> None:
    home, target = tmp_path / "hömé", tmp_path / "relëase"
    environment = os.environ | ASCII | {"EXECUTOR_HOME": str(home)}
    job = host.script_job("hello", *JOB)
    for arguments in (("run", str(job), "--out", str(target)), ("verify", str(target))):
        done = subprocess.run([str(COMMAND), *arguments], capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    assert containers() == ""


def unhealthy(done: Finished, check: str) -> None:
    (failed,) = [row for row in done.json["checks"] if not row["ok"]]
    assert (done.code, done.json["status"], failed["name"]) == (31, "unhealthy", check), done.stdout
    assert "Traceback" not in done.stderr


def refused_before_it_starts(done: Finished, code: int) -> None:
    assert (done.code, done.json["exit_code"]) == (code, code), done.stderr
    assert "running" not in done.stderr


@pytest.mark.parametrize("folder", ["log", "trust", "cas", "run", "releases"])
def test_a_file_in_the_place_of_a_folder_is_seen_by_doctor_and_run(host: Host, home: Path, folder: str) -> None:
    home.mkdir(mode=0o700)
    (home / folder).write_text("")
    done = host.call("doctor", "--json")
    assert done.code == 31
    assert "state directory" in [row["name"] for row in done.json["checks"] if not row["ok"]]
    code = 32 if folder == "trust" else 31
    refused_before_it_starts(host.call("run", str(host.script_job("hello", *JOB)), "--json"), code)


@AS_ROOT
@pytest.mark.parametrize("folder", ["log", "trust", "run"])
def test_a_folder_that_is_mounted_read_only_is_seen_by_doctor_and_run(host: Host, home: Path, folder: str) -> None:
    assert host.call("run", str(host.script_job("hello", *JOB)), "--json").code == 0
    place = home / folder
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    try:
        done = host.call("doctor", "--json")
        assert done.code == 31
        assert "state directory" in [row["name"] for row in done.json["checks"] if not row["ok"]]
        refused_before_it_starts(host.call("run", str(host.script_job("hello", *JOB)), "--json"), 31)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@AS_ROOT
def test_an_engine_that_does_not_see_the_state_directory_is_seen_by_doctor_and_run(host: Host, home: Path) -> None:
    home.mkdir(mode=0o700)
    job = host.script_job("hello", *JOB)
    for command in (["doctor", "--json"], ["run", str(job), "--json"]):
        script = f'mount -t tmpfs -o mode=700 tmpfs {home} && exec "$@"'
        line = ["unshare", "--mount", "sh", "-c", script, "sh", *host.command(*command)]
        ended = subprocess.run(line, capture_output=True, text=True, check=False)
        done = Finished(ended.returncode, ended.stdout, ended.stderr)
        if command[0] == "doctor":
            unhealthy(done, "sandbox")
        else:
            refused_before_it_starts(done, 31)
            assert "does not see the state directory" in done.json["error"]["message"]


def test_a_target_that_another_run_takes_meanwhile_is_that_ones(host: Host) -> None:
    """Both began when there was nothing; the later of the two has nothing to retry."""
    target = host.folder / "release"
    slow = host.script_job("pause", *JOB)
    command = host.command("run", str(slow), "--out", str(target), "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as late:
        assert late.stderr is not None
        while "running" not in (line := late.stderr.readline()):
            assert line, "the run ended early"
        assert host.call("run", str(host.script_job("hello", *JOB)), "--out", str(target)).code == 0
        out, _ = late.communicate(timeout=600)
    assert json.loads(out)["exit_code"] == late.returncode == 21
    assert host.call("verify", str(target)).code == 0
