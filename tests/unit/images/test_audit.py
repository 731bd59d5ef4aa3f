"""The audit of an engine's copy: whatever a container would see otherwise is found and named."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import audit
from images.audit import Alteration, ExpectedTree, Finding
from images.errors import InputError
from tests.unit.images.packages import SmallImage

Change = Callable[[dict[str, tuple[tarfile.TarInfo, bytes]]], None]
ENGINES_OWN = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")


@pytest.fixture
def tree(tmp_path: Path) -> ExpectedTree:
    small, found = SmallImage(tmp_path), ExpectedTree()
    builder = small.builder()
    for name in builder.layers:
        builder.write(name, io.BytesIO(), observe=found.observe)
    return found


@pytest.fixture
def root(tmp_path: Path) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """What an honest engine would show: all layers, and what it adds itself."""
    small, members = SmallImage(tmp_path), {}
    builder = small.builder()
    for name in builder.layers:
        out = io.BytesIO()
        builder.write(name, out)
        out.seek(0)
        with tarfile.open(fileobj=out) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                members[member.name] = (member, content.read() if content else b"")
    for name in ENGINES_OWN:
        members[name] = (tarfile.TarInfo(name), b"")
    for name in ("dev/pts", "dev/shm"):
        members[name] = (_info(name, tarfile.DIRTYPE), b"")
    members["etc/mtab"] = (_info("etc/mtab", tarfile.SYMTYPE, "/proc/mounts"), b"")
    return members


def _info(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def stream(members: dict[str, tuple[tarfile.TarInfo, bytes]]) -> Iterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members.values():
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = out.getvalue()
    return (data[i : i + 1000] for i in range(0, len(data), 1000))


def add(name: str, data: bytes = b"x", **fields: object) -> Change:
    def change(members: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(info, key, value)
        members[name] = (info, data)

    return change


def edit(name: str, data: bytes | None = None, **fields: object) -> Change:
    def change(members: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
        info, old = members[name]
        for key, value in fields.items():
            setattr(info, key, value)
        members[name] = (info, old if data is None else data)

    return change


def test_an_honest_engine_shows_nothing_that_differs(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]]
) -> None:
    assert tree.compare(stream(root)) == []


@pytest.mark.parametrize(
    ("change", "path", "alteration"),
    [
        (edit("etc/os", b"oz"), "etc/os", Alteration.CONTENT),
        (edit("etc/os", b"os and more"), "etc/os", Alteration.CONTENT),
        (edit("etc/os", mode=0o4755), "etc/os", Alteration.MODE),
        (edit("etc/os", uid=65532), "etc/os", Alteration.MODE),
        (edit("etc/os", gid=1), "etc/os", Alteration.MODE),
        (edit("etc", mode=0o777), "etc", Alteration.MODE),
        (edit("tmp", mode=0o777), "tmp", Alteration.MODE),
        (edit("etc/os", b"", type=tarfile.SYMTYPE, linkname="/x"), "etc/os", Alteration.KIND),
        (edit("etc/os", b"", type=tarfile.LNKTYPE, linkname="etc/passwd"), "etc/os", Alteration.KIND),
        (edit("etc/os", b"", type=tarfile.CHRTYPE), "etc/os", Alteration.KIND),
        (edit("bin", linkname="tmp"), "bin", Alteration.CONTENT),
        (edit("bin", uid=1), "bin", Alteration.MODE),
        (edit(".dockerenv", mode=0o4755), ".dockerenv", Alteration.ADDED),
        (edit("dev/shm", mode=0o4777), "dev/shm", Alteration.ADDED),
        (edit("dev/shm", uid=1), "dev/shm", Alteration.MODE),
        (edit("dev/shm", pax_headers={"SCHILY.xattr.user.x": "x"}), "dev/shm", Alteration.ATTRIBUTES),
        (edit("etc/os", pax_headers={"LIBARCHIVE.xattr.x": "x"}), "etc/os", Alteration.ATTRIBUTES),
        (add("../etc/x"), "../etc/x", Alteration.ADDED),
        (
            edit("etc/os", pax_headers={"SCHILY.xattr.security.capability": "x"}),
            "etc/os",
            Alteration.ATTRIBUTES,
        ),
        (add("usr/bin/sh"), "usr/bin/sh", Alteration.ADDED),
        (add("etc/ld.so.preload"), "etc/ld.so.preload", Alteration.ADDED),
        (add("dev/null", b"", type=tarfile.CHRTYPE), "dev/null", Alteration.ADDED),
        (edit("etc/hosts", b"1.2.3.4 registry"), "etc/hosts", Alteration.ADDED),
        (edit("etc/mtab", linkname="/tmp/x"), "etc/mtab", Alteration.ADDED),
        (edit("dev/shm", b"x", type=tarfile.REGTYPE), "dev/shm", Alteration.ADDED),
        (lambda members: members.pop("etc/os") and None, "etc/os", Alteration.REMOVED),
    ],
)
def test_whatever_a_container_would_see_otherwise_is_found(
    tree: ExpectedTree,
    root: dict[str, tuple[tarfile.TarInfo, bytes]],
    change: Change,
    path: str,
    alteration: Alteration,
) -> None:
    change(root)
    assert [(f.path, f.alteration) for f in tree.compare(stream(root))] == [(path, alteration)]


def test_a_second_member_of_one_name_is_found(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]]
) -> None:
    info, _ = root["etc/os"]
    root["again"] = (info, b"os")
    assert [f.path for f in tree.compare(stream(root))] == ["etc/os"]


def test_findings_are_bounded(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FINDINGS_MAX", 3)
    for n in range(3):
        add(f"extra{n}")(root)
    assert len(tree.compare(stream(root))) == 3
    add("extra4")(root)
    assert len(tree.compare(stream(root))) == 3


@pytest.mark.parametrize("cut", [700, 1500])
def test_a_stream_that_ends_too_soon_is_no_verdict(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]], cut: int
) -> None:
    """Not even where the rest would only be missing: the engine may have failed."""
    data = b"".join(stream(root))
    with pytest.raises(InputError, match="something else"):
        tree.compare(iter([data[:cut]]))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_what_is_no_file_system_is_no_verdict(tree: ExpectedTree, data: bytes) -> None:
    with pytest.raises(InputError, match="something else"):
        tree.compare(iter([data]))


@pytest.mark.parametrize(
    "more",
    [bytes(512) * 4 + b"x" * 512, bytes(512) + b"\1" * 512, b"\xff" * 512 * 3, bytes(100_000) + b"\1"],
    ids=["after the end", "after one empty block", "damaged", "far behind"],
)
def test_nothing_hides_behind_the_end(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]], more: bytes
) -> None:
    data = b"".join(stream(root)).rstrip(b"\0")
    data += bytes(-len(data) % 512)
    assert tree.compare(iter([data + bytes(1024)])) == []
    with pytest.raises(InputError, match=r"goes on|something else"):
        tree.compare(iter([data + more + bytes(1024)]))


@pytest.mark.parametrize(
    "keys", [{"GNU.sparse.map": "x", "GNU.sparse.size": "1"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}]
)
def test_a_sparse_member_is_no_verdict_or_a_finding(
    tree: ExpectedTree, root: dict[str, tuple[tarfile.TarInfo, bytes]], keys: dict[str, str]
) -> None:
    edit("etc/os", pax_headers=keys)(root)
    try:
        found = tree.compare(stream(root))
    except InputError:
        return
    assert [f.path for f in found] == ["etc/os"]


def test_a_name_in_a_finding_does_not_speak_to_the_terminal() -> None:
    finding = Finding(path="x\r\x1b[2KENGINE INTACT\udcff", alteration=Alteration.ADDED)
    assert str(finding) == "x\\r\\x1b[2KENGINE INTACT\\udcff: added"
