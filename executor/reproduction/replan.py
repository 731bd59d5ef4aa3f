"""A recorded plan, turned back into the request that it came from, and planned again by this executor."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from executor.errors import Cancelled, ImageMismatchError, RequestError
from executor.job.plan import SCHEMA, LaunchPlan
from executor.job.prepare import plan_job
from executor.job.spec import JobSpec, describe
from executor.transfer.inputs import InputStore

_SANDBOX_LIMITS = ("cpus", "memory_bytes", "pids", "tmp_bytes", "tmp_inodes")
_PLAN_LIMITS = (
    *("wall_seconds", "idle_seconds", "input_bytes", "log_bytes"),
    *("output_bytes", "output_file_bytes", "output_files"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """A plan made again.

    Attributes:
        spec: The request, with inputs by digest and by no place.
        plan: What this executor makes of it.
        differs: Parts of the plan that are not as recorded: a newer executor, policy or seccomp profile. The image, the
            parameters, the inputs and the code are.
    """

    spec: JobSpec
    plan: LaunchPlan
    differs: tuple[str, ...]


def replan(recorded: Mapping[str, Any]) -> Replanned:
    """Plan a recorded plan again.

    Args:
        recorded: The recorded form of a plan, whose signature has been verified.

    Raises:
        RequestError: It is no plan of this version, or its profile does not allow it any more.
        ImageMismatchError: It was made with another image than this executor pins under that name.
    """
    try:
        if recorded["schema"] != SCHEMA:
            raise RequestError(f"the plan's schema is {recorded['schema']!r}, not {SCHEMA!r}")
        spec = JobSpec.model_validate(_request(recorded))
        code = recorded["code"]
        plan = plan_job(spec, code=(code["sha256"], code["entry"]) if code else None)
        image, made_by = str(recorded["image"]["id"]), str(recorded["executor"])
    except ValidationError as err:
        raise RequestError(f"the plan does not come from a job of this version: {describe(err)}") from err
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise RequestError(f"the plan lacks something, or has it in another form: {err}") from err
    wire = plan.to_wire()
    if wire["image"] != recorded["image"]:
        raise ImageMismatchError(
            f"the release was made in image {image}, this executor pins {wire['image']['id']}",
            hint=f"reproduce it with the executor that made it: version {made_by}",
        )
    differs = tuple(sorted(name for name in wire if wire[name] != recorded.get(name)))
    return Replanned(spec=spec, plan=plan, differs=differs)


def _request(recorded: Mapping[str, Any]) -> dict[str, Any]:
    code, script = recorded["code"], recorded["kind"] == "script"
    limits = {name: recorded["job"][name] for name in _SANDBOX_LIMITS}
    limits |= {name: recorded["limits"][name] for name in _PLAN_LIMITS}
    return {
        "apiVersion": "executor/v1",
        "kind": recorded["kind"],
        "name": recorded["name"],
        "image": recorded["image"]["name"],
        "code": {"path": ".", "entry": code["entry"], "sha256": code["sha256"]} if code else None,
        "inputs": {name: {"uri": name, "sha256": digest} for name, digest in recorded["inputs"].items()},
        "plugins": list(recorded["plugins"]),
        "params": recorded["params"],
        "outputs": recorded["outputs"] if script else [],
        "limits": limits,
        "gpus": recorded["job"]["devices"],
        "profile": recorded["policy"]["profile"],
        "seed": recorded["seed"],
    }


def find_inputs(
    spec: JobSpec, stored: Path, folders: tuple[Path, ...], *, cancelled: Callable[[], bool]
) -> dict[str, Path]:
    """Find a job's inputs by their digests: in the store of an executor, then in folders.

    Args:
        spec: The request.
        stored: The content-addressed store.
        folders: Where to look besides; only files directly in them, and none larger than the job's inputs may be.
        cancelled: Asked between files whether to stop.

    Raises:
        RequestError: One is nowhere.
        Cancelled: Somebody asked to stop.
    """
    wanted = {item.sha256: name for name, item in spec.inputs.items()}
    store = InputStore(stored)
    found = {sha: path for sha in wanted if (path := store.path_of(sha)).is_file()}
    for path in sorted(p for folder in folders for p in folder.iterdir() if p.is_file()):
        if wanted.keys() <= found.keys():
            break
        if cancelled():
            raise Cancelled("the reproduction was cancelled")
        with contextlib.suppress(OSError):  # one that cannot be read is none of them
            if path.stat().st_size <= spec.limits.input_bytes:
                found.setdefault(_sha256(path), path)
    for sha, name in wanted.items():
        if sha not in found:
            raise RequestError(f"input {name!r} is not at hand: sha256 {sha}", hint="name its folder with --inputs")
    return {name: found[item.sha256] for name, item in spec.inputs.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
