"""The stages that start containers: the job itself, and the inspections of what it sent."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from executor.egress.destinations import Destination, Lookup, look_up, resolve
from executor.egress.proxy import Proxy
from executor.errors import Cancelled, HostError
from executor.events import Events
from executor.inspection.reports import Inventories, Replays, parse_inventories, parse_replays
from executor.job.plan import LaunchPlan
from executor.sandbox.config import ContainerRequest, SandboxConfig
from executor.sandbox.engine import Engine
from executor.sandbox.intake import Listener
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.sandbox.protocol import Launch, Procedure
from executor.sandbox.session import RunResult, Session, SessionLimits, cpu_seconds_backstop
from executor.sandbox.slot import Slot, WarmSlots, end_quietly, make_folders, open_slot
from executor.state.home import Home
from executor.state.owner import claim_run_folder, discard_run_folder, labels_for
from executor.transfer.inputs import link_tree
from executor.transfer.quarantine import Artifact, Quarantine
from policy.decision import MODEL_FORMATS, Decision, decide, denies
from signing.files import make_folder, open_appending
from signing.layout import hash_file

Named = tuple[Path, str]  # a file, and the sha256 in hex that it must have
_INSPECTION_LOG_BYTES = 1 << 20
_LAUNCH_SECONDS_MAX = 60.0  # between a container's start and its launch: laying out its inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a run needs of the world.

    Attributes:
        home: The state directory.
        engine: Where containers run.
        pool: Where containers wait that are ready already, or None.
        now: The clock.
        cancelled: Whether somebody asked to stop.
        lookup: Returns the addresses of a host that a job may connect to.
    """

    home: Home
    engine: Engine
    pool: WarmSlots | None = None
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    cancelled: Callable[[], bool] = field(default=lambda: False)
    lookup: Lookup = look_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What the inspections found, and what the policy makes of it on which day."""

    inventories: Inventories
    replays: Replays | None
    decision: Decision
    decided: date
    seconds: Mapping[str, float]


@contextmanager
def open_run(
    context: Context,
    plan: LaunchPlan,
    *,
    run_id: str,
    image_id: str,
    events: Events,
    proxy_image_id: str | None = None,
) -> Iterator["Stages"]:
    """Yield the containers of one run, which has a folder of its own in the state directory until this is left.

    Args:
        context: The world.
        plan: What to run.
        run_id: For names and labels.
        image_id: Under which of its two pinned digests the engine has the image.
        events: Told of progress.
        proxy_image_id: The same for the image of the egress proxy, where the plan has one.

    Raises:
        OSError: The folder cannot be made.
    """
    folder = claim_run_folder(context.home, run_id, wall_seconds=plan.longest_seconds)
    try:
        yield Stages(
            plan,
            image_id=image_id,
            proxy_image_id=proxy_image_id,
            run_id=run_id,
            folder=folder,
            context=context,
            events=events,
        )
    finally:
        if context.pool is not None:
            context.pool.close()
        discard_run_folder(folder)


class Stages:
    """Starts the containers of one run.

    Args:
        plan: What to run.
        image_id: Under which of its two pinned digests the engine has the image.
        run_id: For names and labels.
        folder: The run's folder, in which `in/` and `code/` are laid out before the job runs.
        context: The world.
        events: Told of progress.
        proxy_image_id: The same for the image of the egress proxy, where the plan has one.

    Attributes:
        folder: The run's folder.
        egress: Where the job could connect to, and what it tried; None where it has no way out.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        *,
        image_id: str,
        run_id: str,
        folder: Path,
        context: Context,
        events: Events,
        proxy_image_id: str | None = None,
    ) -> None:
        self._plan = plan
        self._image_id = image_id
        self._run_id = run_id
        self.folder = folder
        self._context = context
        self._events = events
        self._proxy_image_id = proxy_image_id
        self.egress: dict[str, Any] | None = None

    def run_job(self, log_folder: Path) -> tuple[RunResult, list[Artifact]]:
        """Run the job's own container; what it prints goes to two files, what it sends to quarantine.

        Raises:
            HostError: A host that the profile names has no address, or no container could be started.
        """
        plan, folder = self._plan, self.folder
        make_folder(folder / "quarantine", mode=0o755)
        quarantine = Quarantine(
            folder / "quarantine",
            declared={o.name: o.role for o in plan.outputs},
            bytes_max=plan.output_bytes,
            file_bytes_max=plan.output_file_bytes,
            files_max=plan.output_files,
        )
        procedure = Procedure(
            kind=plan.kind,
            params=plan.params,
            inputs={name: f"/in/{name}" for name in plan.inputs},
            outputs={o.name: o.role for o in plan.outputs},
            entry=plan.code[1] if plan.code else None,
        )
        with ExitStack() as stack:
            proxy = self._start_proxy(stack) if plan.egress else None
            logs = {
                name: stack.enter_context(open_appending(log_folder / f"{name}.log", mode=0o600))
                for name in ("stdout", "stderr")
            }

            def on_log(stream: str, data: bytes) -> None:
                logs[stream].write(data)
                self._events.emit("log", stream=stream, text=data.decode(errors="replace"))

            def on_progress(values: Mapping[str, float]) -> None:
                self._events.emit("progress", values=dict(values))

            result = self._session(
                "job",
                plan.job,
                {"in": folder / "in", "code": folder / "code"},
                procedure,
                quarantine=quarantine,
                limits=SessionLimits(
                    wall_seconds=plan.wall_seconds, idle_seconds=plan.idle_seconds, log_bytes=plan.log_bytes
                ),
                listener=Listener(on_progress=on_progress, on_log=on_log),
                proxy=proxy,
            )
            if proxy is not None and proxy.has_ended and result.outcome.kind is OutcomeKind.JOB_FAILED:
                reason = f"the egress proxy ended before the job, which failed: {result.outcome.reason}"
                fault = replace(result.outcome, kind=OutcomeKind.HOST_FAULT, reason=reason)
                result = replace(result, outcome=fault)
        return result, quarantine.artifacts

    def _start_proxy(self, stack: ExitStack) -> Proxy:
        """Look up where the job may connect to, and start what lets it; `stack` stops it."""
        plan, context = self._plan, self._context
        assert plan.egress is not None, "it is asked for where there is one"
        assert self._proxy_image_id is not None, "admission found its image"
        destinations = resolve(
            plan.egress.rules, today=context.now().date(), lookup=context.lookup, cancelled=context.cancelled
        )
        request = ContainerRequest(
            name=f"sealed-executor-{self._run_id}-egress",
            config=replace(plan.egress.proxy, image_id=self._proxy_image_id),
            folder=self.folder / "egress",
            labels=labels_for(context.home, self._run_id, wall_seconds=plan.longest_seconds),
        )
        proxy = Proxy(
            context.engine,
            request,
            destinations,
            users=context.home.users,
            wall_seconds=plan.longest_seconds,
            cancelled=context.cancelled,
        )
        stack.callback(self._stop_proxy, proxy, destinations)
        proxy.start()
        return proxy

    def _stop_proxy(self, proxy: Proxy, destinations: Sequence[Destination]) -> None:
        self.egress = {"destinations": [d.to_wire() for d in destinations], **proxy.stop().to_wire()}
        self._events.emit("egress", **self.egress)

    def inspect(self, artifacts: list[Artifact]) -> Inspected:
        """Inventory first, without loading anything; replay only what passed; decide on both.

        Raises:
            HostError: An inspection failed through no fault of what it read.
            Cancelled: Somebody asked to stop.
        """
        plan, today, seconds = self._plan, self._context.now().date(), {}
        inventories, seconds["inventory"] = self.inventory(artifacts)
        hashed, plugins = [(a.name, a.sha256) for a in artifacts], inventories.plugins
        denied = denies(plan.policy, inventories.artifacts, artifacts=hashed, today=today, plugins=plugins)
        models = {a.name: a.format for a in inventories.artifacts if a.format in MODEL_FORMATS}
        replays = None
        if not denied and models:
            vectors = next((a.name for a in artifacts if a.role == "test-vectors"), None)
            report, seconds["replay"] = self._inspection("replay", artifacts, {"models": models, "vectors": vectors})
            replays = parse_replays(report, sorted(models))
        decision = decide(
            plan.policy,
            inventories.artifacts,
            replays.models if replays else None,
            tolerance=replays.tolerance if replays else (0.0, 0.0),
            artifacts=hashed,
            today=today,
            plugins=plugins,
        )
        return Inspected(inventories=inventories, replays=replays, decision=decision, decided=today, seconds=seconds)

    def inventory(self, artifacts: list[Artifact]) -> tuple[Inventories, float]:
        """List what artifacts hold, without loading anything; return the seconds that it took, too.

        Raises:
            HostError: The inventory failed through no fault of what it read.
            Cancelled: Somebody asked to stop.
        """
        report, seconds = self._inspection("inventory", artifacts, {})
        return parse_inventories(report, artifacts, self._plugin_names()), seconds

    def today(self) -> date:
        """Return the day by which rules have expired or not."""
        return self._context.now().date()

    def compare(
        self, pairs: Mapping[str, tuple[Named, Named]], formats: Mapping[str, str], *, atol: float, rtol: float
    ) -> Mapping[str, Any]:
        """Have a clean container say which tensors of artifacts differ. They are loaded there: only what passed.

        Args:
            pairs: By name, what it was and what it is now, each with its sha256.
            formats: Recognised format by name.
            atol: How far a number may be apart, absolutely.
            rtol: And relative to what it was.

        Raises:
            HostError: The container failed through no fault of what it read, or a file is not what its digest says.
            Cancelled: Somebody asked to stop.
        """
        folder, inputs = self.folder / "compared", {}
        make_folder(folder, mode=0o755)
        for number, (name, pair) in enumerate(pairs.items()):
            for which, (source, sha256) in zip(("old", "new"), pair, strict=True):
                copy = folder / f"{which}-{number}"
                shutil.copyfile(source, copy)
                copy.chmod(0o444)
                if hash_file(folder, copy.name, size=None) != sha256:  # the copy: what it was may change at any time
                    raise HostError(f"{name} changed while it was read: {source}")
                inputs[f"{which}/{name}"] = f"/in/{copy.name}"
        params = {"formats": dict(formats), "atol": atol, "rtol": rtol}
        return self._inspection_of("compare", inputs, folder, params)[0]

    def _plugin_names(self) -> list[str]:
        return sorted({rule.name for rule in self._plan.plugins.values()})

    def _inspection(
        self, kind: str, artifacts: list[Artifact], params: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], float]:
        inputs = {a.name: f"/in/{a.path.name}" for a in artifacts}
        return self._inspection_of(kind, inputs, self.folder / "quarantine", params)

    def _inspection_of(
        self, kind: str, inputs: Mapping[str, str], folder: Path, params: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], float]:
        plan = self._plan
        plugins = {
            rule.name: {"path": f"/job/{rule.name}", "sha256": rule.sha256, "runtime": rule.runtime}
            for rule in plan.plugins.values()
        }
        procedure = Procedure(kind=kind, params={**params, "plugins": plugins}, inputs=inputs, outputs={})
        self._events.emit("inspecting", stage=kind)
        result = self._session(
            kind,
            plan.inspection,
            {"in": folder, "code": self.folder / "plugins"},
            procedure,
            quarantine=Quarantine(self.folder, declared={}, bytes_max=0, file_bytes_max=0, files_max=0),
            limits=SessionLimits(
                wall_seconds=plan.inspection_wall_seconds,
                idle_seconds=plan.inspection_wall_seconds,
                log_bytes=_INSPECTION_LOG_BYTES,
            ),
            listener=Listener(),
        )
        seconds = round(sum(result.seconds.values()), 4)
        if result.outcome.kind is OutcomeKind.CANCELLED:
            raise Cancelled("the run was cancelled")
        if result.outcome.kind is not OutcomeKind.SUCCEEDED:
            return self._failed_inspection(kind, list(inputs), params, result.outcome), seconds
        return result.result, seconds

    def _failed_inspection(
        self, kind: str, names: list[str], params: Mapping[str, Any], outcome: Outcome
    ) -> Mapping[str, Any]:
        """An inspection that died on what it read: a denial of the artifacts, unless the host was at fault.

        Raises:
            HostError: The host was.
        """
        if outcome.kind is OutcomeKind.HOST_FAULT:
            raise HostError(f"the {kind} container failed: {outcome.reason}")
        if kind == "inventory":
            finding = {"id": "INVENTORY-FAILED", "place": "file", "detail": outcome.reason[:300]}
            report = {"format": "unknown", "facts": {}, "operators": [], "findings": [finding]}
            return {
                "artifacts": dict.fromkeys(names, report),
                "plugins": dict.fromkeys(self._plugin_names(), report),
                "environment": {},
            }
        if kind == "compare":
            return {"artifacts": {name: {"error": outcome.reason[:300]} for name in params["formats"]}}
        models = {name: {"error": outcome.reason[:300]} for name in params["models"]}
        return {"models": models, "atol": 0.0, "rtol": 0.0, "environment": {}}

    def _session(
        self,
        role: str,
        config: SandboxConfig,
        files: Mapping[str, Path],
        procedure: Procedure,
        *,
        quarantine: Quarantine,
        limits: SessionLimits,
        listener: Listener,
        proxy: Proxy | None = None,
    ) -> RunResult:
        config = replace(config, image_id=self._image_id)
        slot = self._slot(role, procedure.kind, config, limits)
        with ExitStack() as undo:
            undo.callback(end_quietly, slot.lease)
            undo.callback(slot.shut)
            for name, source in files.items():
                link_tree(source, slot.folder / name)
            if proxy is not None:
                proxy.serve(slot.folder / "socket")
            undo.pop_all()
        if role == "job":
            self._events.emit("started", warm=slot.warm)
        session = Session(
            self._context.engine,
            slot,
            limits=limits,
            quarantine=quarantine,
            listener=listener,
            cancelled=self._context.cancelled,
        )
        launch = Launch(
            procedure=procedure,
            seed=self._plan.seed,
            threads=config.threads,
            cpu_seconds=cpu_seconds_backstop(config.cpus, limits.wall_seconds),
            wall_seconds=limits.wall_seconds,
        )
        return session.run(launch)

    def _slot(self, role: str, kind: str, config: SandboxConfig, limits: SessionLimits) -> Slot:
        """Take a container that waits already, or start one."""
        context = self._context
        if context.pool is not None and (slot := context.pool.take(kind, config)) is not None:
            return slot
        folder = self.folder / role
        make_folders(folder)
        request = ContainerRequest(
            name=f"sealed-executor-{self._run_id}-{role}",
            config=config,
            folder=folder,
            labels=labels_for(context.home, self._run_id, wall_seconds=limits.wall_seconds),
        )
        return open_slot(
            context.engine,
            request,
            users=context.home.users,
            kind=kind,
            preload=False,
            lease_seconds=_LAUNCH_SECONDS_MAX,
            cancelled=context.cancelled,
        )
