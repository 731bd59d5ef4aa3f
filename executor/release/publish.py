"""The release: staged, attested, verified with the consumer's own code, and renamed into place.

Complete or absent: until the last rename nothing exists under the release's name.
"""

import contextlib
import ctypes
import errno
import gc
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from executor.errors import RequestError, UnsupportedError, host_error
from executor.release.attest import attest
from executor.release.gate import Approved
from executor.release.stage import ReleaseContent, stage
from executor.state.home import Home
from signing.encoding import canonical_json
from signing.files import make_folder, remove_folder
from signing.manifest import ARTIFACTS, DECISION, FOLDER_MODE, PLAN, own_bundle_path
from signing.oms import OMS_FILE, oms_statement, sign_oms
from signing.signer import Signer
from signing.verify import Verified, verify_release

_PATH_BYTES_MAX = 4096  # PATH_MAX, with its null byte
_SYNC_EACH_MAX = 256  # fsync of each of 5,000 files took 0.2 s CPU, syncfs 0.001 s (measured 2026-11-24)


def check_name(target: Path) -> None:
    """Refuse a name that no record can hold.

    Raises:
        RequestError: It is not Unicode.
    """
    try:
        str(target).encode()
    except UnicodeEncodeError as err:
        raise RequestError(f"the name of the release directory is not Unicode: {str(target)!r}") from err


def check_target(target: Path, home: Home, *, names: Iterable[str] = ()) -> None:
    """Refuse a place where no release can be put, before any work is done for it.

    Args:
        target: The release directory.
        home: The state directory, which holds releases in one place alone.
        names: Artifacts that the release may hold, by their paths in it.

    Raises:
        RequestError: There is something at that path, no folder to put it in, none that can be written to, or it lies
            in the state directory, most of which is swept.
        HostError: The file system that it would be on cannot be written to for now.
    """
    parent = target.parent
    staging = staging_path(target, f"probe-{os.urandom(8).hex()}")
    try:
        place, state = parent.resolve(), home.root.resolve()
        if place.is_relative_to(state) and not place.is_relative_to(state / "releases"):
            raise RequestError(
                f"the release directory lies in the executor's own state directory: {target}",
                hint="name another with --out; without it the release goes to releases/ there",
            )
        with contextlib.suppress(FileNotFoundError):
            target.lstat()
            raise RequestError(f"release directory exists already: {target}", hint="name a new one with --out")
        if not parent.is_dir():
            raise RequestError(f"no folder to put the release in: {parent}")
        longest = max((len(os.fsencode(own_bundle_path(name))) for name in names), default=0)
        if len(os.fsencode(staging)) + longest + 1 >= _PATH_BYTES_MAX:
            raise RequestError(f"the path of the release directory is too long for what is put in it: {target}")
        # Done, not asked: access(2) knows neither a name that is too long nor a full or read-only file system.
        make_folder(staging, mode=FOLDER_MODE)
        staging.rmdir()
    except OSError as err:
        failure = host_error(err, f"no release can be put at {target}")
        if isinstance(failure, UnsupportedError):
            raise RequestError(failure.message, hint="name another place with --out") from err
        raise failure from err
    except RuntimeError as err:  # resolve(), of links that lead in a circle
        raise RequestError(f"no release can be put at {target}: {err}") from err


def staging_path(target: Path, run_id: str) -> Path:
    """Return where a release is staged: beside its target, so that the last rename is atomic.

    Its name does not hold the target's, which may be as long as a name can be.
    """
    return target.parent / f".{run_id}.partial"


def release(
    approved: Approved,
    content: ReleaseContent,
    *,
    target: Path,
    signer: Signer,
    now: Callable[[], datetime],
    before_naming: Callable[[Verified], None],
    named: Callable[[], None] = lambda: None,
) -> Verified:
    """Stage, sign, verify and rename a release.

    Args:
        approved: The gate's word.
        content: What is recorded beside the artifacts.
        target: Where it shall be. Must not exist.
        signer: Signs it.
        now: The clock.
        before_naming: Told of the release when it is complete, verified and on the disk, and has no name yet.
        named: Told as soon as it has its name, before anything else can fail.

    Raises:
        HostError: An artifact changed since it was received, or a file could not be written.
        RequestError: The target appeared meanwhile.
        SigningError: It could not be signed, or does not verify.
    """
    staging = staging_path(target, content.run_id)
    make_folder(staging, mode=FOLDER_MODE)
    collecting = gc.isenabled()
    gc.disable()  # thousands of small values and no cycles: collecting took a fifth of the time (measured 2026-11-24)
    try:
        documents = {PLAN: canonical_json(content.record["plan"]), DECISION: canonical_json(content.record["decision"])}
        if content.also_oms:
            digests = {a.name: a.sha256 for a in approved.artifacts}
            documents[OMS_FILE] = sign_oms(signer, oms_statement(ARTIFACTS, digests), now=now())
        manifest = stage(approved, content, documents, staging)
        attest(signer, manifest, content, staging, now=now())
        # The consumer's own code; what was hashed while it was staged is not read once more.
        hashed = {f.path for f in manifest.artifacts}
        verified = verify_release(staging, signer.expectations(), hashed=hashed)
        _sync(staging)
        before_naming(verified)
        _rename(staging, target, named)
    finally:
        if collecting:
            gc.enable()
        remove_folder(staging)
    return verified


def withdraw(target: Path, run_id: str) -> None:
    """Take back a release that the run cannot stand by: its name goes first, its content after.

    Raises:
        OSError: It still has its name.
    """
    staging = staging_path(target, run_id)
    target.rename(staging)
    with contextlib.suppress(OSError):
        _sync_one(target.parent)
    remove_folder(staging)


def _sync(folder: Path) -> None:
    """Have the disk hold everything before the name exists: each file, or, of many, the file system at once."""
    found = [(place, name) for place, _, names in os.walk(folder) for name in ("", *names)]
    if len(found) > _SYNC_EACH_MAX and _sync_file_system(folder):
        return
    for place, name in found:
        _sync_one(f"{place}/{name}")


def _sync_file_system(folder: Path) -> bool:
    """Call syncfs(2), which Python does not have. It reports failures to write since Linux 5.8; False if it does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(ctypes.CDLL(None, use_errno=True).syncfs(descriptor) == 0)
    except (OSError, AttributeError):  # another C library
        return False
    finally:
        os.close(descriptor)


def _sync_one(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(staging: Path, target: Path, named: Callable[[], None]) -> None:
    if os.path.lexists(target):
        raise RequestError(f"release directory appeared while the job ran: {target}", hint="name a new one with --out")
    try:
        staging.rename(target)  # fails, and does not merge, if a folder with content came in between
        named()
        _sync_one(target.parent)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise RequestError(f"release directory appeared while the job ran: {target}") from err
        raise host_error(err, f"cannot put the release in place: {target}") from err
