"""Users of containers: a range that fits the host, and no number twice at once."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from executor.errors import HostError, RequestError, UnsupportedError
from executor.sandbox import users
from executor.sandbox.config import ContainerRequest
from executor.sandbox.slot import _create
from executor.sandbox.users import DEFAULT, UserRange, check_range, configured, lease_user
from tests.fakes.engine import FakeEngine
from tests.unit.executor.sandbox.test_config import CONFIG

SPAN = UserRange(first=20_000, last=20_063)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DEFAULT),
        ("20000-20063", SPAN),
        ("1000-1063", UserRange(first=1000, last=1063)),
        ("2147352512-2147352575", UserRange(first=2_147_352_512, last=2_147_352_575)),
    ],
)
def test_the_range_is_the_one_that_the_environment_names(text: str, expected: UserRange) -> None:
    assert configured({"EXECUTOR_USERS": text}) == expected
    assert configured({}) == DEFAULT


@pytest.mark.parametrize(
    "text",
    [
        *(
            "20000-20062",
            "999-1062",
            "2147352513-2147352576",
            "20063-20000",
            "20000",
            "a-b",
            "-",
            "1-",
            " ",
            "20000-30000 ",
        ),
        *("0-70000", "20000:30000", "9" * 30 + "-" + "9" * 31, "٢٠٠٠٠-٣٠٠٠٠"),
    ],
)
def test_a_range_that_is_none_or_too_small_or_the_systems_own_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="EXECUTOR_USERS") as refused:
        configured({"EXECUTOR_USERS": text})
    assert "20000-59999" in refused.value.hint


@pytest.mark.parametrize(
    ("line", "clashes"),
    [
        ("somebody:20063:1", True),
        ("somebody:20064:65536", False),
        ("somebody:10000:10000", False),
        ("somebody:10000:10001", True),
        ("1000:1:100000", True),
        ("somebody:20000:0", False),
        ("somebody:20000", False),
        ("# 20000:20000:20000", True),
        ("", False),
    ],
)
def test_what_is_somebodys_subordinate_users_is_not_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, clashes: bool
) -> None:
    (tmp_path / "subuid").write_text(f"other:500000:65536\n{line}\n")
    monkeypatch.setattr(users, "_SUBORDINATE", (tmp_path / "missing", tmp_path / "subuid"))
    if clashes:
        with pytest.raises(UnsupportedError, match="subuid gives") as refused:
            check_range(SPAN, user_namespace=False)
        assert "EXECUTOR_USERS" in refused.value.hint
    else:
        check_range(SPAN, user_namespace=False)
    check_range(SPAN, user_namespace=True)  # the numbers within an engine's namespace are nobody's


def test_an_engine_that_maps_users_has_none_above_those_that_it_maps() -> None:
    check_range(UserRange(first=60_000, last=65_535), user_namespace=True)
    for span in (UserRange(first=60_000, last=65_536), DEFAULT):
        with pytest.raises(UnsupportedError, match="maps users"):
            check_range(span, user_namespace=True)
    check_range(DEFAULT, user_namespace=False)


def test_no_number_is_leased_twice_at_once_and_all_can_be_had(tmp_path: Path) -> None:
    path = tmp_path / "users.lock"
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda _: lease_user(path, SPAN), range(64)))
    assert sorted(lease.number for lease in leases) == list(range(20_000, 20_064))
    with pytest.raises(HostError, match="all 64 users") as refused:
        lease_user(path, SPAN)
    assert "EXECUTOR_USERS" in refused.value.hint
    leases[7].close()
    leases[7].close()
    assert lease_user(path, SPAN).number == leases[7].number
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 0


def test_what_a_killed_process_held_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "users.lock"
    code = (
        "import sys; from pathlib import Path; from executor.sandbox.users import UserRange, lease_user\n"
        "leases = [lease_user(Path(sys.argv[1]), UserRange(first=20000, last=20063)) for _ in range(64)]\n"
        "print('all', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "all\n"
        with pytest.raises(HostError, match="all 64 users"):
            lease_user(path, SPAN)
        holder.kill()
        holder.wait()
        lease_user(path, SPAN).close()


def test_no_descriptor_is_left_where_all_are_taken_or_the_file_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "users.lock"
    leases = [lease_user(path, SPAN) for _ in range(64)]
    before = descriptors(tmp_path)
    with pytest.raises(HostError):
        lease_user(path, SPAN)
    with pytest.raises(HostError, match="cannot take a user"):
        lease_user(tmp_path / "missing/users.lock", SPAN)
    with pytest.raises(HostError, match="cannot take a user"):
        lease_user(tmp_path, SPAN)
    assert before == descriptors(tmp_path) == 64
    for lease in leases:
        lease.close()


def taken_by(engine: FakeEngine, number: int) -> None:
    labels = (("sealed-executor.user", str(number)),)
    engine.create(
        ContainerRequest(name=f"other-{number}", config=CONFIG, folder=Path("/o"), labels=labels, user=number)
    )


def test_a_user_that_another_state_directory_has_is_left_to_it(tmp_path: Path) -> None:
    engine = FakeEngine(lambda _: None)
    for number in range(SPAN.first, SPAN.last):
        taken_by(engine, number)
    request = ContainerRequest(name="n", config=replace(CONFIG, users=SPAN), folder=tmp_path, labels=(("k", "v"),))
    before = descriptors(tmp_path)
    made, container, lease = _create(engine, request, tmp_path / "users.lock")
    assert made.user == SPAN.last
    assert made.labels == (("k", "v"), ("sealed-executor.user", str(SPAN.last)))
    assert [c.container_id for c in engine.owned("k")] == [container], "those that had another's user are gone"
    assert descriptors(tmp_path) == before + 1
    assert lease.end()
    taken_by(engine, SPAN.last)
    with pytest.raises(HostError, match="all 64 users"):
        _create(engine, request, tmp_path / "users.lock")
    assert engine.owned("k") == []
    assert descriptors(tmp_path) == before


def descriptors(folder: Path) -> int:
    """Count the descriptors of files in a folder: others of this process come and go with what earlier tests left."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(link.readlink()).startswith(str(folder))
    return found


def fails(engine: FakeEngine, call: str) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise HostError(f"could not {call}")

    setattr(engine, call, fail)
    return fail


@pytest.mark.parametrize("call", ["create", "owned"])
def test_a_container_that_could_not_be_made_leaves_no_user_taken(tmp_path: Path, call: str) -> None:
    engine, path = FakeEngine(lambda _: None), tmp_path / "users.lock"
    fails(engine, call)
    before = descriptors(tmp_path)
    with pytest.raises(HostError, match=call):
        _create(engine, ContainerRequest(name="n", config=CONFIG, folder=tmp_path, labels=()), path)
    assert descriptors(tmp_path) == before
    assert engine.containers == {}
