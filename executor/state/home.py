"""Where the executor keeps its state: `EXECUTOR_HOME`, by default the XDG state directory."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from executor.errors import UnsupportedError, host_error
from signing.files import make_folder

_HINT = "set EXECUTOR_HOME to a folder of yours"


@dataclass(frozen=True, slots=True)
class Home:
    """The state directory. Folders are made when first used, readable by their owner alone."""

    root: Path

    @property
    def cas(self) -> Path:
        """Everything that is kept by digest, jobs' inputs among it."""
        return self.folder("cas")

    @property
    def blobs(self) -> Path:
        """Packages and layers of images. A cache: it may be deleted at any time."""
        return self.folder("cas/blobs")

    @property
    def bytecode(self) -> Path:
        """Bytecode that this machine compiled for images. A cache."""
        return self.folder("cas/bytecode")

    @property
    def memo(self) -> Path:
        """Notes on what image layers came out as. A cache."""
        return self.folder("cas/memo")

    @property
    def runs(self) -> Path:
        """One folder per run that is under way. What is left behind belongs to a dead executor."""
        return self.folder("run")

    @property
    def runs_database(self) -> Path:
        """The state of runs."""
        self.folder("")
        return self.root / "runs.sqlite"

    @property
    def users(self) -> Path:
        """The file whose bytes stand for the users of containers."""
        self.folder("")
        return self.root / "users.lock"

    @property
    def pool(self) -> Path:
        """The warm pool's socket and lock."""
        return self.folder("pool")

    @property
    def releases(self) -> Path:
        """Releases of runs that named no other place."""
        return self.folder("releases")

    @property
    def trust(self) -> Path:
        """The local trust domain: keys, log and trusted root."""
        return self.folder("trust")

    @property
    def log(self) -> Path:
        """One folder per run: its signed record and the job's captured output."""
        return self.folder("log")

    def folder(self, name: str) -> Path:
        """Return a folder of the home, made if needed.

        Raises:
            UnsupportedError: It cannot be made.
        """
        path = self.root / name
        try:
            for folder in reversed([path, *path.parents]):
                # Every folder of ours is ours alone; those above the root are made as anybody makes them.
                if folder.is_relative_to(self.root):
                    make_folder(folder, mode=0o700, exist_ok=True)
                else:
                    folder.mkdir(exist_ok=True)
            self.check_owner()
        except OSError as err:
            failure = host_error(err, f"cannot use the state directory: {path}", hint=_HINT)
            # A folder that cannot be made, as in /proc, or a file in its place is no passing state either.
            lasting = err.errno in (errno.ENOENT, errno.EEXIST)
            raise UnsupportedError(failure.message, hint=_HINT) if lasting else failure from err
        return path

    def check_owner(self) -> None:
        """Refuse a state directory in which somebody else could put keys, code or releases.

        Raises:
            UnsupportedError: It is another user's, or others may write to it.
            OSError: It is not there.
        """
        seen = self.root.stat()
        if seen.st_uid != os.geteuid():
            raise UnsupportedError(f"the state directory belongs to user {seen.st_uid}: {self.root}", hint=_HINT)
        if seen.st_mode & 0o022:
            raise UnsupportedError(
                f"others may write to the state directory, mode {stat.S_IMODE(seen.st_mode):04o}: {self.root}",
                hint=f"see who did, then: chmod go-w {self.root}",
            )


def open_home() -> Home:
    """Return the home that the environment names.

    Raises:
        UnsupportedError: It names none, and this user has none in which it could be.
    """
    named = os.environ.get("EXECUTOR_HOME")
    if named:
        return Home(Path(named).absolute())
    try:
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    except RuntimeError as err:  # neither HOME nor an entry for this user
        raise UnsupportedError("no place for the state directory: this user has no home", hint=_HINT) from err
    return Home((Path(state) / "executor").absolute())
