"""Whether the proxies of two runs reach one another, tried with two."""

import secrets
from contextlib import ExitStack
from dataclasses import replace

from executor.egress.destinations import Destination
from executor.egress.network import reaches
from executor.egress.proxy import Proxy
from executor.errors import HostError
from executor.job.plan import EgressPlan
from executor.run.containers import Context
from executor.sandbox.config import ContainerRequest
from executor.state.owner import claim_run_folder, discard_run_folder, labels_for

_SECONDS = 300.0
# A place of RFC 5737, which is nowhere.
_PLACE = Destination(rule="PROBE", host="probe.invalid", port=9, address="192.0.2.1")


def try_proxies(plan: EgressPlan, *, image_id: str, context: Context) -> str | None:
    """Start two proxies as two runs do, and connect from the network of each to the other's.

    Args:
        plan: The proxy as runs of a profile have it.
        image_id: The engine's digest of its image.
        context: Where they run.

    Returns:
        What is wrong, or None: neither reaches the other.

    Raises:
        HostError: They cannot be started, or this process may not enter their networks.
    """
    with ExitStack() as stack:
        places = [_start(plan, image_id, context, stack) for _ in range(2)]
        try:
            for pid, address in places:
                if not reaches(pid, pid, address):
                    raise HostError("a proxy does not reach itself, so nothing can be tried with it")
            for (source, _), (target, address) in (places, places[::-1]):
                if reaches(source, target, address):
                    return f"one proxy reaches another's at {address}"
        except OSError as err:
            reason = f"the networks of the proxies cannot be entered: {err.strerror}"
            raise HostError(reason, hint="run this as root, on the engine's machine") from err
    return None


def _start(plan: EgressPlan, image_id: str, context: Context, stack: ExitStack) -> tuple[int, str]:
    """Start a proxy, which `stack` stops; return its process 1 and its address."""
    run_id = f"doctor-{secrets.token_hex(6)}"
    folder = claim_run_folder(context.home, run_id, wall_seconds=_SECONDS)
    stack.callback(discard_run_folder, folder)
    request = ContainerRequest(
        name=f"sealed-executor-{run_id}-egress",
        config=replace(plan.proxy, image_id=image_id),
        folder=folder / "egress",
        labels=labels_for(context.home, run_id, wall_seconds=_SECONDS),
    )
    proxy = Proxy(
        context.engine,
        request,
        (_PLACE,),
        users=context.home.users,
        wall_seconds=_SECONDS,
        cancelled=context.cancelled,
    )
    stack.callback(proxy.stop)
    proxy.start()
    state = context.engine.state(request.name)
    (address,) = state.networks.values()
    return state.pid, address
