"""Admission: whether this engine and this image can do what a plan says, before anything is started."""

from dataclasses import dataclass

from executor.errors import ImageMismatchError, UnsupportedError
from executor.job.plan import LaunchPlan
from executor.sandbox.engine import Engine, EngineInfo, ImageFacts
from executor.sandbox.users import check_range
from images.lock import ImageLock

_API_MIN = (1, 41)
_ENV_REFUSED = ("LD_", "NVIDIA_")
_ENV_ALLOWED = ("NVIDIA_VISIBLE_DEVICES=void",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What a plan was admitted with.

    Attributes:
        engine: What the engine says of itself.
        image_id: The digest under which it has the image: of the configuration in Docker's classic store, of the
            manifest in the containerd store. Both are pinned.
        proxy_image_id: The same for the image of the egress proxy, or None where the plan has none.
    """

    engine: EngineInfo
    image_id: str
    proxy_image_id: str | None = None


def admit(engine: Engine, plan: LaunchPlan) -> Admitted:
    """Hold engine and image against a plan.

    Raises:
        UnsupportedError: The engine cannot enforce what the plan needs, or lacks the runtime or the devices.
        ImageMismatchError: The pinned image is not there, or not what its lock says.
    """
    info = engine.info()
    check_engine(info, plan.job.runtime, plan.job.devices)
    check_range(plan.job.users, user_namespace=info.user_namespace)
    image_id, proxy_image_id = _admit_image(engine, plan.image), None
    if plan.egress is not None:
        check_engine(info, plan.egress.proxy.runtime, ())
        proxy_image_id = _admit_image(engine, plan.egress.image)
    return Admitted(engine=info, image_id=image_id, proxy_image_id=proxy_image_id)


def _admit_image(engine: Engine, image: ImageLock) -> str:
    return check_image(engine.image(image.expect.image_id) or engine.image(image.expect.manifest), image)


def check_engine(info: EngineInfo, runtime: str, devices: tuple[str, ...]) -> None:
    """Refuse an engine that would silently leave out a protection.

    Raises:
        UnsupportedError: It would.
    """
    if info.api < _API_MIN:
        raise UnsupportedError(
            f"the engine speaks API {info.api[0]}.{info.api[1]}, needed is {_API_MIN[0]}.{_API_MIN[1]}",
            hint="Docker Engine 20.10 or later",
        )
    for there, what in (
        (info.seccomp, "filter system calls (seccomp)"),
        (info.memory_limit, "limit memory and swap"),
        (info.pids_limit, "limit processes"),
    ):
        if not there:
            raise UnsupportedError(f"the engine cannot {what}", hint="see `executor doctor`")
    if runtime not in info.runtimes:
        raise UnsupportedError(
            f"the engine has no runtime {runtime!r}", hint=f"it has: {', '.join(sorted(info.runtimes))}"
        )
    if devices and not info.cdi:
        raise UnsupportedError(
            f"the engine cannot give a container the device {devices[0]}: it has no CDI",
            hint="GPUs need Docker Engine 25 or later with CDI enabled, and nvidia-container-toolkit 1.18 or later",
        )


def check_image(found: ImageFacts | None, image: ImageLock) -> str:
    """Return the digest of an image that is the pinned one and brings nothing that a sealed container must not have.

    Raises:
        ImageMismatchError: It is not there, is another, or does.
    """
    name, wanted = image.name, image.expect.image_id
    if found is None:
        raise ImageMismatchError(
            f"the engine does not have image {name!r} ({wanted})", hint=f"load it: executor image load {name}"
        )
    if found.image_id not in (wanted, image.expect.manifest):
        raise ImageMismatchError(f"the engine has {found.image_id} in place of image {name!r} ({wanted})")
    if found.volumes:
        raise ImageMismatchError(f"image {name!r} declares volumes: writable host disk under a read-only root")
    if found.healthcheck:
        raise ImageMismatchError(f"image {name!r} declares a health check: code that runs beside the job")
    for variable in found.env:
        if variable.startswith(_ENV_REFUSED) and variable not in _ENV_ALLOWED:
            raise ImageMismatchError(
                f"image {name!r} sets {variable.partition('=')[0]}, which host-side hooks would obey"
            )
    if found.working_dir.startswith("/proc"):
        raise ImageMismatchError(f"image {name!r} works in {found.working_dir} (CVE-2024-21626)")
    return found.image_id
