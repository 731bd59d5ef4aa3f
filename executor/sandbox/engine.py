"""The engine port: the few verbs that the executor needs of a container engine.

`executor/sandbox/docker.py` is the only implementation that starts containers; `tests/fakes/engine.py` has the one
for tests.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from executor.sandbox.cgroup import Usage
from executor.sandbox.config import ContainerRequest

UNSEEN = "the engine does not see the state directory"
UNSEEN_HINT = "set EXECUTOR_HOME to a folder that the engine sees under the same path"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself.

    Attributes:
        version: Its version, for people and records.
        api: API version as a tuple, for comparisons.
        runtimes: OCI runtimes by name.
        seccomp: Whether it can filter system calls.
        memory_limit: Whether memory limits hold.
        pids_limit: Whether process limits hold.
        cdi: Whether devices can be requested by CDI name.
        cgroup_version: 1 or 2.
        user_namespace: Whether users of containers are mapped to others on the host (`userns-remap`, rootless).
    """

    version: str
    api: tuple[int, int]
    runtimes: frozenset[str]
    seccomp: bool
    memory_limit: bool
    pids_limit: bool
    cdi: bool
    cgroup_version: int
    user_namespace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the engine has under an image ID."""

    image_id: str
    volumes: frozenset[str]
    env: tuple[str, ...]
    healthcheck: bool
    working_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What the engine says of one container.

    Attributes:
        running: Whether its process 1 lives and is not frozen.
        pid: Process 1 on the host, or 0.
        exit_code: Status of process 1 once it ended.
        oom_killed: Whether any process of it was killed for memory.
        image_id: The image that it really was made of.
        started: When it was started, in the engine's words; another value means that it was started again.
        visitors: How many processes somebody else has running in it (`docker exec`).
        networks: The networks that it is on, by name, with its IPv4 address there or the empty string.
        host_config: The restrictions that it is under, as the engine reports them.
    """

    running: bool
    pid: int
    exit_code: int
    oom_killed: bool
    image_id: str
    started: str
    visitors: int
    networks: Mapping[str, str]
    host_config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedContainer:
    """A container that carries the executor's labels."""

    container_id: str
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedNetwork:
    """A network that carries the executor's labels."""

    network_id: str
    name: str
    labels: Mapping[str, str]


class Engine(Protocol):
    """A container engine. Every call has a timeout of its own and raises `HostError` when it fails.

    Calls may come from several threads, and one that gets no answer holds up no other.
    """

    def info(self) -> EngineInfo:
        """Ask the engine about itself."""

    def image(self, image_id: str) -> ImageFacts | None:
        """Return what the engine has under an ID, or None."""

    def load_image(self, archive: Iterable[bytes]) -> None:
        """Hand an image archive to the engine."""

    def layer_chains(self) -> list[tuple[str, ...]]:
        """Return the layers of every image that the engine has, as `sha256:` diff IDs from the bottom."""

    def create_network(self, name: str, *, labels: tuple[tuple[str, str], ...], subnet: str | None) -> bool:
        """Create a bridge network that reaches outside.

        Args:
            name: Its name.
            labels: Whose it is.
            subnet: Its IPv4 addresses, as `10.1.2.0/30`; None for some of the engine's own choice.

        Returns:
            Whether it was created: not where another network has some of these addresses.
        """

    def remove_network(self, name: str, *, seconds: float | None = None) -> None:
        """Remove a network; one that is gone is no error.

        Args:
            name: Its name or its ID.
            seconds: How long it may take; None for as long as engines need at most.
        """

    def owned_networks(self, label: str) -> list[OwnedNetwork]:
        """Return all networks that carry a label."""

    def create_inert(self, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> str:
        """Create a container that is never started, to look at its root; return its ID."""

    def export(self, container_id: str) -> Iterator[bytes]:
        """Yield a container's root as a tar stream."""

    def create(self, request: ContainerRequest) -> str:
        """Create a container and return its ID."""

    def start(self, container_id: str) -> None:
        """Start a container."""

    def state(self, container_id: str) -> ContainerState:
        """Return a container's state."""

    def usage(self, container_id: str) -> Usage:
        """Return what a running container has used, as the engine counts it."""

    def kill(self, container_id: str) -> None:
        """Kill a container; one that is not running is left as it is."""

    def wait(self, container_id: str, *, seconds: float) -> bool:
        """Wait for a container to end; False if it has not within the time."""

    def remove(self, container_id: str, *, seconds: float | None = None) -> None:
        """Remove a container with its volumes, running or not; one that is gone is no error.

        Args:
            container_id: Its ID or its name.
            seconds: How long it may take; None for as long as engines need at most.
        """

    def unremoved(self) -> frozenset[str]:
        """Return the names of what this process is to remove, and of which it is not known to be done."""

    def owned(self, label: str) -> list[OwnedContainer]:
        """Return all containers that carry a label, running or not."""
