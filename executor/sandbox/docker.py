"""The Docker Engine adapter: the one module that starts containers.

Never attaches, never uses the archive API: a client that stops reading an attached stream wedges the daemon for that
container (measured 2026-11 on 20.10). Errors of the client library end here, as `HostError` with what was tried.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import docker
import docker.errors
import docker.utils.utils
import requests.exceptions

from executor.errors import HostError, UnsupportedError
from executor.sandbox.config import ContainerRequest, create_body, inert_body
from executor.sandbox.engine import ContainerState, EngineInfo, ImageFacts, OwnedContainer

_CALL_SECONDS = 60
_LOAD_SECONDS = 1800
_API_WITH_CDI = (1, 44)  # Engine 25; before it a "cdi" driver is unknown


class DockerEngine:
    """Talks to the engine that `DOCKER_HOST` or the default socket names."""

    def __init__(self) -> None:
        try:
            options = docker.utils.utils.kwargs_from_env()
            self._api: Any = docker.APIClient(**options, version="auto", timeout=_CALL_SECONDS)
        except (docker.errors.DockerException, requests.exceptions.RequestException) as err:
            raise HostError(
                "no Docker Engine answers", hint="start it, or set DOCKER_HOST; see `executor doctor`"
            ) from err

    def info(self) -> EngineInfo:
        """Ask the engine about itself."""
        info = self._call("ask the engine about itself", self._api.info)
        major, _, minor = str(self._api.api_version).partition(".")
        options = [str(o) for o in info.get("SecurityOptions") or []]
        api = (int(major), int(minor))
        return EngineInfo(
            version=str(info["ServerVersion"]),
            api=api,
            runtimes=frozenset(info.get("Runtimes") or {}),
            seccomp=any(o.startswith("name=seccomp") or o == "seccomp" for o in options),
            memory_limit=bool(info.get("MemoryLimit")) and bool(info.get("SwapLimit")),
            pids_limit=bool(info.get("PidsLimit")),
            cdi=api >= _API_WITH_CDI and bool(info.get("CDISpecDirs")),
            cgroup_version=int(info.get("CgroupVersion") or 1),
        )

    def image(self, image_id: str) -> ImageFacts | None:
        """Return what the engine has under an ID, or None."""
        try:
            found = self._call(f"look up image {image_id}", self._api.inspect_image, image_id)
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
        before, self._api.timeout = self._api.timeout, _LOAD_SECONDS
        try:
            for status in self._call("load the image", self._api.load_image, archive, quiet=True):
                if "error" in status:
                    raise HostError(f"the engine refused the image: {status['error']}")
        finally:
            self._api.timeout = before

    def layer_chains(self) -> list[tuple[str, ...]]:
        """Return the layers of every image that the engine has, as `sha256:` diff IDs from the bottom."""
        chains = []
        for found in self._call("list images", self._api.images):
            try:
                image = self._call("look up an image", self._api.inspect_image, found["Id"])
            except _NotFoundError:  # removed meanwhile
                continue
            chains.append(tuple((image.get("RootFS") or {}).get("Layers") or ()))
        return chains

    def create_inert(self, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> str:
        """Create a container that is never started, to look at its root; return its ID."""
        body = inert_body(image_id, labels)
        return str(self._call("create a container", self._api.create_container_from_config, body, name)["Id"])

    def export(self, container_id: str) -> Iterator[bytes]:
        """Yield a container's root as a tar stream."""
        stream = iter(self._call("export a container", self._api.export, container_id))
        while (chunk := self._call("export a container", next, stream, b"")) != b"":
            yield chunk

    def create(self, request: ContainerRequest) -> str:
        """Create a container and return its ID."""
        body = create_body(request)
        try:
            answer = self._call("create a container", self._api.create_container_from_config, body, request.name)
        except _NotFoundError as err:
            raise HostError(f"the engine has no image {request.config.image_id}") from err
        return str(answer["Id"])

    def start(self, container_id: str) -> None:
        """Start a container."""
        self._call("start a container", self._api.start, container_id)

    def state(self, container_id: str) -> ContainerState:
        """Return a container's state."""
        found = self._call("inspect a container", self._api.inspect_container, container_id)
        state = found["State"]
        return ContainerState(
            running=bool(state["Running"]),
            pid=int(state["Pid"]),
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            image_id=str(found["Image"]),
        )

    def kill(self, container_id: str) -> None:
        """Kill a container; one that is not running is left as it is."""
        try:
            self._call("kill a container", self._api.kill, container_id)
        except (_NotFoundError, _ConflictError):
            return

    def wait(self, container_id: str, *, seconds: float) -> bool:
        """Wait for a container to end; False if it has not within the time."""
        try:
            self._api.wait(container_id, timeout=seconds)
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
            return False
        except docker.errors.DockerException as err:
            raise HostError("could not wait for a container") from err
        return True

    def remove(self, container_id: str) -> None:
        """Remove a container with its volumes, running or not; one that is gone is no error."""
        try:
            self._call("remove a container", self._api.remove_container, container_id, v=True, force=True)
        except (_NotFoundError, _ConflictError):  # a conflict means that another removal is under way
            return

    def owned(self, label: str) -> list[OwnedContainer]:
        """Return all containers that carry a label, running or not."""
        found = self._call("list containers", self._api.containers, all=True, filters={"label": label})
        return [
            OwnedContainer(container_id=str(c["Id"]), name=str(c["Names"][0]).lstrip("/"), labels=dict(c["Labels"]))
            for c in found
        ]

    def _call(self, what: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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
        except (docker.errors.DockerException, requests.exceptions.RequestException) as err:
            raise HostError(f"could not {what}", hint="is the Docker Engine running? see `executor doctor`") from err


class _NotFoundError(HostError):
    """The engine has no such image or container."""


class _ConflictError(HostError):
    """The container is in a state that does not allow the call."""
