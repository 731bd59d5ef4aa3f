"""The Docker Engine adapter: the one module that starts containers.

Never attaches, never uses the archive API: a client that stops reading an attached stream wedges the daemon for that
container (measured 2026-11 on 20.10). Errors of the client library end here, as `HostError` with what was tried.

A call runs on a thread and a connection of its own, for as long as it is given. One that the engine never answers, or
answers a byte at a time, is left behind, and the calls beside it do not notice. Once somebody has asked to stop, all
calls together have little more than a second: what is not removed by then is owed.
"""

import contextlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import docker.utils.utils
import requests.exceptions

from executor.errors import HostError, UnsupportedError
from executor.sandbox.cgroup import Usage
from executor.sandbox.config import ContainerRequest, create_body, inert_body
from executor.sandbox.engine import (
    UNSEEN,
    UNSEEN_HINT,
    ContainerState,
    EngineInfo,
    ImageFacts,
    OwnedContainer,
    OwnedNetwork,
)

_LOOK_SECONDS = 15.0  # inspect and list: milliseconds where all is well
_COUNTERS_SECONDS = 5.0
_CHANGE_SECONDS = 60.0  # create, start and remove
_KILL_SECONDS = 10.0
_LOAD_SECONDS = 1800.0
_MARGIN_SECONDS = 2.0  # between the connection's own time limit and ours
# For all calls after somebody asked to stop. A kill and a removal take 0.4 s where all is well (2026-11).
_CANCELLED_SECONDS = 1.0
_TICK_SECONDS = 0.1
_UNANSWERED_MAX = 32  # beyond that many calls without an answer the engine is not asked again
_IDLE_MAX = 4
_FAILURES = (
    docker.errors.DockerException,
    requests.exceptions.RequestException,
    OSError,
    LookupError,
    ValueError,  # what answers is no engine, or says what the library does not understand
)
_API_WITH_CDI = (1, 44)  # Engine 25; before it a "cdi" driver is unknown


class DockerEngine:
    """Talks to the engine that `DOCKER_HOST` or the default socket names.

    Args:
        cancelled: Asked several times a second during a call whether to stop.
        first_seconds: How long the engine may take to say which version it is.

    Raises:
        HostError: None answers.
    """

    def __init__(self, *, cancelled: Callable[[], bool] = lambda: False, first_seconds: float = _LOOK_SECONDS) -> None:
        self._idle: list[Any] = []
        self._unanswered: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._cancelled = cancelled
        self._cancelled_until: float | None = None
        self._cpus: int | None = None  # that the engine has, once it has said so
        self._made: dict[str, bool] = {}  # what may be there, by name; whether the engine said so
        try:
            self._options = docker.utils.utils.kwargs_from_env()
        except docker.errors.DockerException as err:
            raise HostError("DOCKER_HOST or what belongs to it cannot be used", hint=str(err)) from err

        try:
            first = self._within(
                first_seconds,
                "ask the engine for its version",
                lambda: _new_client(self._options, "auto", seconds=first_seconds),
            )
        except HostError as err:
            raise HostError(
                "no Docker Engine answers", hint="start it, or set DOCKER_HOST; see `executor doctor`"
            ) from err
        self._version = str(first.api_version)
        self._idle.append(first)

    def info(self) -> EngineInfo:
        """Ask the engine about itself."""
        info = self._call("ask the engine about itself", "info")
        api = _version_of(self._version)
        if not isinstance(info, dict) or api is None:
            raise UnsupportedError(
                f"what answers is no Docker Engine, or none that is known: API {self._version[:40]!r}"
            )
        self._cpus = int(info.get("NCPU") or 0)
        options = [str(o) for o in info.get("SecurityOptions") or []]
        return EngineInfo(
            version=str(info.get("ServerVersion") or "unknown"),
            api=api,
            runtimes=frozenset(info.get("Runtimes") or {}),
            seccomp=any(o.startswith("name=seccomp") or o == "seccomp" for o in options),
            memory_limit=bool(info.get("MemoryLimit")) and bool(info.get("SwapLimit")),
            pids_limit=bool(info.get("PidsLimit")),
            cdi=api >= _API_WITH_CDI and bool(info.get("CDISpecDirs")),
            cgroup_version=int(info.get("CgroupVersion") or 1),
            user_namespace=any(o.startswith(("name=userns", "name=rootless")) for o in options),
        )

    def image(self, image_id: str) -> ImageFacts | None:
        """Return what the engine has under an ID, or None."""
        try:
            found = self._call(f"look up image {image_id}", "inspect_image", image_id)
        except _NotFoundError:
            return None
        config = found.get("Config") or {}
        return ImageFacts(
            image_id=str(found["Id"]),
            volumes=frozenset(config.get("Volumes") or {}),
            env=tuple(config.get("Env") or ()),
            healthcheck=bool(config.get("Healthcheck")),
            working_dir=str(config.get("WorkingDir") or "/"),
        )

    def load_image(self, archive: Iterable[bytes]) -> None:
        """Hand an image archive to the engine, streaming."""
        answers = self._call("load the image", "load_image", archive, quiet=True, seconds=_LOAD_SECONDS, whole=True)
        for status in answers:
            if "error" in status:
                raise HostError(f"the engine refused the image: {status['error']}")

    def layer_chains(self) -> list[tuple[str, ...]]:
        """Return the layers of every image that the engine has, as `sha256:` diff IDs from the bottom."""
        chains = []
        for found in self._call("list images", "images"):
            try:
                image = self._call("look up an image", "inspect_image", found["Id"])
            except _NotFoundError:  # removed meanwhile
                continue
            chains.append(tuple((image.get("RootFS") or {}).get("Layers") or ()))
        return chains

    def create_network(self, name: str, *, labels: tuple[tuple[str, str], ...], subnet: str | None) -> bool:
        """Create a bridge network; return whether it was created: not where another one has some of the subnet."""
        pools = [docker.types.IPAMPool(subnet=subnet)] if subnet else []
        self._made[name] = False
        try:
            self._call(
                "create a network",
                "create_network",
                name,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false"},
                ipam=docker.types.IPAMConfig(pool_configs=pools),
                check_duplicate=True,
                labels=dict(labels),
                seconds=_CHANGE_SECONDS,
            )
        except _NotFoundError as err:  # in these words engines say that their own subnets are used up (20.10)
            del self._made[name]
            raise HostError("the engine has no subnet left for another network") from err
        except UnsupportedError as err:  # refused
            del self._made[name]
            if subnet is not None and "overlaps" in err.message:
                return False
            raise
        self._made[name] = True
        return True

    def remove_network(self, name: str, *, seconds: float | None = None) -> None:
        """Remove a network; one that is gone is no error."""
        limit = _CHANGE_SECONDS if seconds is None else seconds
        try:
            self._call("remove a network", "remove_network", name, seconds=limit)
        except _NotFoundError:
            pass
        except HostError:
            self._made.setdefault(name, True)
            raise
        if self._made.get(name):
            del self._made[name]

    def owned_networks(self, label: str) -> list[OwnedNetwork]:
        """Return all networks that carry a label."""
        found = self._call("list networks", "networks", filters={"label": label})
        return [OwnedNetwork(network_id=str(n["Id"]), name=str(n["Name"]), labels=dict(n["Labels"])) for n in found]

    def create_inert(self, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> str:
        """Create a container that is never started, to look at its root; return its ID."""
        body = inert_body(image_id, labels)
        answer = self._call("create a container", "create_container_from_config", body, name, seconds=_CHANGE_SECONDS)
        return str(answer["Id"])

    def export(self, container_id: str) -> Iterator[bytes]:
        """Yield a container's root as a tar stream."""
        with self._client(_LOAD_SECONDS) as client:  # its own connection: a reader may take its time
            stream = iter(self._translate("export a container", client.export, container_id))
            while (chunk := self._translate("export a container", next, stream, b"")) != b"":
                yield chunk

    def create(self, request: ContainerRequest) -> str:
        """Create a container and return its ID."""
        body = create_body(request)
        if self._cpus is None:
            self.info()
        if self._cpus:  # a limit is a ceiling: engines refuse one that is above what they have
            body["HostConfig"]["NanoCpus"] = min(body["HostConfig"]["NanoCpus"], self._cpus * 10**9)
        self._made[request.name] = False
        try:
            answer = self._call(
                "create a container", "create_container_from_config", body, request.name, seconds=_CHANGE_SECONDS
            )
        except _NotFoundError as err:
            del self._made[request.name]
            raise HostError(f"the engine has no image {request.config.image_id}") from err
        except UnsupportedError as err:  # refused, where an answer that never came may have made it all the same
            del self._made[request.name]
            if "bind source path does not exist" in err.message:
                raise UnsupportedError(UNSEEN, hint=UNSEEN_HINT) from err
            raise
        self._made[request.name] = True
        return str(answer["Id"])

    def start(self, container_id: str) -> None:
        """Start a container."""
        self._call("start a container", "start", container_id, seconds=_CHANGE_SECONDS)

    def state(self, container_id: str) -> ContainerState:
        """Return a container's state."""
        found = self._call("inspect a container", "inspect_container", container_id)
        state = found["State"]
        return ContainerState(
            running=bool(state["Running"]) and not state["Paused"],
            pid=int(state["Pid"]),
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            image_id=str(found["Image"]),
            started=str(state["StartedAt"]),
            visitors=len(found.get("ExecIDs") or ()),
            networks={
                name: str(place.get("IPAddress") or "") for name, place in found["NetworkSettings"]["Networks"].items()
            },
            host_config=found["HostConfig"],
        )

    def usage(self, container_id: str) -> Usage:
        """Return what a running container has used, as the engine counts it.

        The engine has no count of refused processes and out-of-memory kills, and under cgroup v2 none of peak memory.
        """
        what, options = "read a container's counters", {"stream": False, "one_shot": True}
        found = self._call(what, "stats", container_id, seconds=_COUNTERS_SECONDS, **options)
        cpu = (found.get("cpu_stats") or {}).get("cpu_usage") or {}
        memory = found.get("memory_stats") or {}
        nanoseconds, peak = cpu.get("total_usage"), memory.get("max_usage")
        return Usage(
            memory_peak_bytes=int(peak) if peak else None,
            cpu_seconds=int(nanoseconds) / 1e9 if nanoseconds else None,
        )

    def kill(self, container_id: str) -> None:
        """Kill a container; one that is not running is left as it is."""
        try:
            self._call("kill a container", "kill", container_id, seconds=_KILL_SECONDS)
        except (_NotFoundError, _ConflictError):
            return

    def wait(self, container_id: str, *, seconds: float) -> bool:
        """Wait for a container to end; False if it has not within the time."""
        try:
            self._call("wait for a container", "wait", container_id, timeout=seconds, seconds=seconds)
        except _UnansweredError:
            return False
        return True

    def remove(self, container_id: str, *, seconds: float | None = None) -> None:
        """Remove a container with its volumes, running or not; one that is gone is no error."""
        try:
            self._call(
                "remove a container",
                "remove_container",
                container_id,
                v=True,
                force=True,
                seconds=_CHANGE_SECONDS if seconds is None else seconds,
            )
        except (_NotFoundError, _ConflictError):  # a conflict means that another removal is under way
            pass
        except HostError:
            self._made.setdefault(container_id, True)
            raise
        if self._made.get(container_id):
            del self._made[container_id]

    def unremoved(self) -> frozenset[str]:
        """Return the names of what this process is to remove, and of which it is not known to be done."""
        return frozenset(self._made)

    def owned(self, label: str) -> list[OwnedContainer]:
        """Return all containers that carry a label, running or not."""
        found = self._call("list containers", "containers", all=True, filters={"label": label})
        return [
            OwnedContainer(container_id=str(c["Id"]), name=str(c["Names"][0]).lstrip("/"), labels=dict(c["Labels"]))
            for c in found
        ]

    def _call(
        self, what: str, method: str, *args: Any, seconds: float = _LOOK_SECONDS, whole: bool = False, **kwargs: Any
    ) -> Any:
        """Make one call within a time of its own.

        Args:
            what: For messages.
            method: Of the client library.
            args: For it.
            seconds: How long it may take, answer included.
            whole: Read an answer that comes in pieces to its end.
            kwargs: For it.
        """
        with self._client(seconds) as client:

            def work() -> Any:
                answer = getattr(client, method)(*args, **kwargs)
                return list(answer) if whole else answer

            return self._within(seconds + _MARGIN_SECONDS, what, work)

    def _within(self, seconds: float, what: str, work: Callable[[], Any]) -> Any:
        """Do something on a thread of its own, and return what came of it, within a time.

        Raises:
            HostError: It failed, or has not ended by then; then it is left behind.
        """
        answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def answer() -> None:
            try:
                answers.put((self._translate(what, work), None))
            except BaseException as err:  # raised again below, in the caller's thread
                answers.put((None, err))

        thread = threading.Thread(target=answer, name=f"engine: {what}", daemon=True)
        deadline = time.monotonic() + seconds
        thread.start()
        while True:
            left = min(deadline, self._end_of_patience()) - time.monotonic()
            try:
                done, error = answers.get(timeout=max(0.0, min(_TICK_SECONDS, left)))
                break
            except queue.Empty:
                if left > 0:
                    continue
                with self._lock:
                    self._unanswered.append(thread)
                raise _UnansweredError(f"could not {what}: no answer within {seconds:g} s", hint=_HINT) from None
        if error is not None:
            raise error
        return done

    def _end_of_patience(self) -> float:
        """Until when any call may take, once somebody has asked to stop."""
        if self._cancelled_until is None:
            if not self._cancelled():
                return float("inf")
            self._cancelled_until = time.monotonic() + _CANCELLED_SECONDS
        return self._cancelled_until

    @contextlib.contextmanager
    def _client(self, seconds: float) -> Iterator[Any]:
        """Lend a client that nobody else uses meanwhile; after an error it is not used again."""
        with self._lock:
            self._unanswered = [thread for thread in self._unanswered if thread.is_alive()]
        if len(self._unanswered) >= _UNANSWERED_MAX:
            raise HostError(f"the engine leaves {len(self._unanswered)} calls unanswered", hint=_HINT)
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._translate("connect to the engine", _new_client, self._options, self._version)
        client.timeout = seconds
        try:
            yield client
        except (_NotFoundError, _ConflictError):
            self._give_back(client)
            raise
        except BaseException:
            client.close()
            raise
        self._give_back(client)

    def _give_back(self, client: Any) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_MAX:
                self._idle.append(client)
                return
        client.close()

    @staticmethod
    def _translate(what: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except docker.errors.NotFound as err:
            raise _NotFoundError(f"could not {what}") from err
        except docker.errors.APIError as err:
            if err.status_code == 409:
                raise _ConflictError(f"could not {what}") from err
            permanent = err.status_code is not None and err.status_code < 500
            kind = UnsupportedError if permanent else HostError
            raise kind(f"could not {what}: {str(err.explanation or err)[:300]}") from err
        except (requests.exceptions.ReadTimeout, TimeoutError) as err:
            raise _UnansweredError(f"could not {what}: no answer in time", hint=_HINT) from err
        except (
            docker.errors.DockerException,
            requests.exceptions.RequestException,
            OSError,
            ValueError,
            KeyError,
        ) as err:
            if "timed out" in str(err):  # the client library's own wrapping of a read that took too long
                raise _UnansweredError(f"could not {what}: no answer in time", hint=_HINT) from err
            raise HostError(f"could not {what}", hint=_HINT) from err


def _new_client(options: Mapping[str, Any], version: str, *, seconds: float = _LOOK_SECONDS) -> Any:
    """Return a client of the library, which else reads the user's own configuration for what pulls images.

    Nothing of it is needed here, and a file that the library does not understand would end every command.
    """
    with _environment:
        before = os.environ.get("DOCKER_CONFIG")
        os.environ["DOCKER_CONFIG"] = str(Path(__file__).with_name("docker_config"))
        try:
            return docker.APIClient(**options, version=version, timeout=int(seconds) or 1)
        finally:
            if before is None:
                del os.environ["DOCKER_CONFIG"]
            else:
                os.environ["DOCKER_CONFIG"] = before


def _version_of(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", text)
    return (int(found[1]), int(found[2])) if found else None


_environment = threading.Lock()
_HINT = "is the Docker Engine running? see `executor doctor`"


class _NotFoundError(HostError):
    """The engine has no such image or container."""


class _ConflictError(HostError):
    """The container is in a state that does not allow the call."""


class _UnansweredError(HostError):
    """The engine did not answer in time."""
