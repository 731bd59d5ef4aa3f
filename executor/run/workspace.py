"""What a job sees of its run's folder: inputs, plugins and code, read-only and as their digests say."""

from collections.abc import Callable, Mapping
from pathlib import Path

from executor.job.plan import LaunchPlan
from executor.transfer.inputs import CodeTree, InputStore, copy_input, lay_out_code
from signing.files import make_folder


def lay_out(
    plan: LaunchPlan,
    sources: Mapping[str, Path],
    code: CodeTree | None,
    folder: Path,
    *,
    cancelled: Callable[[], bool],
) -> int:
    """Lay out copies of a job's inputs, and its code.

    Args:
        plan: The plan, which names every input by its digest.
        sources: Where each input lies.
        code: Its code, or None.
        folder: The run's folder; gets `in`, `plugins` and `code`.
        cancelled: Asked now and then whether to stop.

    Returns:
        Bytes of all inputs together.

    Raises:
        RequestError: An input is not what the plan names, or all of them are more than it allows.
        Cancelled: Somebody asked to stop.
    """
    for part in ("in", "plugins", "code"):
        make_folder(folder / part, mode=0o755)
    digests, left = dict(plan.inputs), plan.input_bytes
    for name, source in sorted(sources.items()):
        left -= copy_input(
            source,
            folder / "in" / name,
            sha256=digests[name],
            name=name,
            bytes_max=left,
            native=name in plan.plugins,
            cancelled=cancelled,
        )
    for name, rule in plan.plugins.items():
        (folder / "plugins" / rule.name).hardlink_to(folder / "in" / name)
    if code is not None:
        lay_out_code(code, folder / "code")
    return plan.input_bytes - left


def keep_inputs(plan: LaunchPlan, folder: Path, store: InputStore) -> None:
    """Move the copies of a job's inputs into the store, once no job needs them any more.

    Raises:
        HostError: One cannot be moved.
    """
    for name, digest in plan.inputs.items():
        store.keep(folder / "in" / name, digest)
