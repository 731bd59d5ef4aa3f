"""The doctor: what a run would need of this host, checked by doing it, and the sweep of what dead runs left."""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from executor.doctor.attempts import ATTEMPTS
from executor.doctor.battery import plan_attempt, run_battery
from executor.doctor.proxies import try_proxies
from executor.errors import ExecutorError, HostError, host_error
from executor.exits import Exit
from executor.job.admission import admit, check_engine
from executor.recovery.sweep import recover
from executor.release.signer import open_host_signer
from executor.run.containers import Context
from executor.run.readiness import check_room, check_state, check_writable, free_bytes
from executor.sandbox.cgroup import can_limit_tcp_memory
from executor.sandbox.config import ContainerRequest
from executor.sandbox.engine import Engine
from executor.sandbox.engine_images import find_image
from executor.sandbox.slot import make_folders, open_slot
from executor.sandbox.users import check_range, configured
from executor.state.home import Home, open_home
from executor.state.owner import claim_run_folder, discard_run_folder, labels_for
from executor.state.runs import Runs
from images.errors import ImageError
from images.lock import known_images, load_lock
from policy.errors import PolicyError
from policy.load import load_policy
from signing.choice import is_chosen, mode_of
from signing.errors import SigningError

PROFILE = "standard"
_ATTEMPTS_AT_ONCE = 2
_PROBE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: its name, whether it holds, what was seen, and what to do otherwise."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks, and what the sweep removed."""

    checks: tuple[Check, ...]
    removed: tuple[str, ...]

    @property
    def exit(self) -> Exit:
        """0 where a run can work."""
        return Exit.RELEASED if all(c.ok for c in self.checks) else Exit.HOST_PERMANENT

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        checks = [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in self.checks]
        return {
            "schema": "executor.doctor/v1",
            "status": "healthy" if self.exit is Exit.RELEASED else "unhealthy",
            "exit_code": int(self.exit),
            "checks": checks,
            "removed": list(self.removed),
        }


def examine(*, deep: bool = False, profile: str = PROFILE, say: Callable[[str], None] = lambda _: None) -> Report:
    """Check this host and sweep.

    Args:
        deep: Also try to break out of the sandbox, in every way that the battery knows.
        profile: Whose sandbox to try.
        say: Told of each attempt.
    """
    home = open_home()
    engine = _engine()
    checks = [_no_torch(), _probe("policy", lambda: f"profile {PROFILE}, sha256 {load_policy(PROFILE).digest[:12]}")]
    checks.append(_probe("state directory", lambda: _state_detail(home)))
    checks.append(_probe("state of runs", lambda: f"{len(Runs(home.runs_database).unfinished())} not ended"))
    checks.append(_probe("signer", lambda: _signer_detail(home)))
    if isinstance(engine, ExecutorError):
        checks.append(Check(name="engine", ok=False, detail=engine.message, hint=engine.hint))
        return Report(checks=tuple(checks), removed=tuple(_sweep(None, home)))
    checks.append(_probe("engine", lambda: _engine_detail(engine)))
    checks += [_probe(f"image {name}", _image_probe(engine, name)) for name in _images()]
    if all(check.ok for check in checks):
        checks.append(_probe("sandbox", lambda: _sandbox_detail(engine, home)))
    if deep and all(check.ok for check in checks):
        checks += _try_to_break_out(engine, home, profile, say)
    return Report(checks=tuple(checks), removed=tuple(_sweep(engine, home)))


def _try_to_break_out(engine: Engine, home: Home, profile: str, say: Callable[[str], None]) -> list[Check]:
    context = Context(home=home, engine=engine)
    try:
        plan = plan_attempt(ATTEMPTS[0], profile=profile, way_out=True)
        admitted = admit(engine, plan)
        tried = []
        if plan.egress is not None and admitted.proxy_image_id is not None:
            say("the proxies of two runs")
            tried.append(("two proxies", try_proxies(plan.egress, image_id=admitted.proxy_image_id, context=context)))
    except ExecutorError as err:
        return [Check(name="escape", ok=False, detail=err.message, hint=err.hint)]
    found = run_battery(context, image_id=admitted.image_id, profile=profile, at_once=_ATTEMPTS_AT_ONCE, say=say)
    tried += [(attempt.name, wrong) for attempt, wrong in found]
    return [
        Check(
            name=f"escape: {name}",
            ok=wrong is None,
            detail=wrong or "held",
            hint="do not run untrusted jobs here" if wrong else "",
        )
        for name, wrong in tried
    ]


def _engine() -> Engine | HostError:
    from executor.sandbox.docker import DockerEngine

    try:
        return DockerEngine()
    except HostError as err:
        return err


def _state_detail(home: Home) -> str:
    check_state(home)
    plan = plan_attempt(ATTEMPTS[0], profile=PROFILE)
    check_room(plan, home, home.releases / "release", input_bytes=0)
    return f"{home.root}, {free_bytes(home.runs) >> 20} MiB free"


def _signer_detail(home: Home) -> str:
    folder = home.root / "trust"
    if not is_chosen(folder):
        return "none yet: the first run makes a local trust domain"
    if mode_of(folder) == "local":
        check_writable(folder)
    open_host_signer(home, now=datetime.now(UTC))
    return f"mode {mode_of(folder)}"


def _sandbox_detail(engine: Engine, home: Home) -> str:
    """Start a container as a run does, and have it connect to this process."""
    plan = plan_attempt(ATTEMPTS[0], profile=PROFILE)
    config = replace(plan.inspection, image_id=admit(engine, plan).image_id)
    run_id = f"doctor-{secrets.token_hex(6)}"
    folder = claim_run_folder(home, run_id, wall_seconds=_PROBE_SECONDS)
    try:
        make_folders(folder / "probe")
        request = ContainerRequest(
            name=f"sealed-executor-{run_id}",
            config=config,
            folder=folder / "probe",
            labels=labels_for(home, run_id, wall_seconds=_PROBE_SECONDS),
        )
        slot = open_slot(
            engine,
            request,
            users=home.users,
            kind="inventory",
            preload=False,
            lease_seconds=_PROBE_SECONDS,
            cancelled=lambda: False,
        )
        slot.shut()
        if not slot.lease.end():
            raise HostError("the engine did not remove a container")
        return f"a container of {plan.image.name} came up in {sum(slot.seconds.values()):.1f} s"
    except OSError as err:
        raise host_error(err, "a container could not be tried") from err
    finally:
        discard_run_folder(folder)


def _engine_detail(engine: Engine) -> str:
    info = engine.info()
    check_engine(info, load_policy(PROFILE).profile.runtime, ())
    cdi = "with CDI" if info.cdi else "no CDI, so no GPU jobs"
    span = configured()
    check_range(span, user_namespace=info.user_namespace)
    mapped = "mapped by the engine" if info.user_namespace else "the host's own numbers"
    users = f"containers have users {span.first} to {span.last}, {mapped}"
    tcp = "" if can_limit_tcp_memory() else " (a job's TCP buffers count for nobody)"
    return f"Docker Engine {info.version}, cgroup v{info.cgroup_version}{tcp}, {cdi}; {users}"


def _images() -> tuple[str, ...]:
    """The images that jobs of the default profile may ask for; others are loaded by those who use them."""
    try:
        allowed = load_policy(PROFILE).profile.images
    except PolicyError:
        return ()  # the policy's own check says what is wrong with it
    return tuple(name for name in known_images() if name in allowed)


def _image_probe(engine: Engine, name: str) -> Callable[[], str]:
    def probe() -> str:
        lock = load_lock(name)
        if find_image(engine, lock.image) is None:
            raise HostError("the engine does not have it", hint=f"executor image load {name}")
        return lock.expect.image_id

    return probe


def _no_torch() -> Check:
    import importlib.util

    there = importlib.util.find_spec("torch") is not None
    return Check(
        name="host environment",
        ok=not there,
        detail=f"Python {sys.version.split()[0]}, {'torch is installed' if there else 'no torch'}",
        hint="install the executor into an environment of its own",
    )


def _probe(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except (ExecutorError, ImageError, PolicyError, SigningError) as err:
        return Check(name=name, ok=False, detail=err.message, hint=err.hint)
    except OSError as err:
        return Check(name=name, ok=False, detail=f"{err.filename or 'the host'}: {err.strerror}", hint="")


def _sweep(engine: Engine | None, home: Home) -> list[str]:
    try:
        return recover(engine, home, now=lambda: datetime.now(UTC))
    except (HostError, OSError) as err:
        if engine is None:
            return [f"not all: {err}"]
        return _sweep(None, home)  # the engine's own check says what is wrong with it
