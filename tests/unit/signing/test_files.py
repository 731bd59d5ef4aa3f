"""Files that somebody named are read where they are files that end, and are not too large."""

from pathlib import Path

import pytest

from signing import files
from signing.files import read_named


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_named(tmp_path / "link") == b"x"


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
def test_a_file_of_more_than_so_many_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, fits: bool
) -> None:
    monkeypatch.setattr(files, "NAMED_BYTES_MAX", 10)
    (tmp_path / "file").write_bytes(b"x" * size)
    if fits:
        assert len(read_named(tmp_path / "file")) == size
        return
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_named(tmp_path / "file")


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/dev/null"])
def test_what_is_no_plain_file_is_not_read(path: str) -> None:
    with pytest.raises(OSError, match="not a plain file"):
        read_named(Path(path))
