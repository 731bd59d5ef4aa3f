"""The stages that start containers: the job itself, and the inspections of what it sent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from executor.egress.destinations import Destination, Lookup, look_up, resolve
from executor.egress.proxy import Proxy
from executor.errors import Cancelled, HostError
from executor.events import Events
from executor.inspection.interface import Found, Inspection
from executor.job.plan import EgressPlan, LaunchPlan
from executor.sandbox.config import ContainerRequest, SandboxConfig
from executor.sandbox.engine import Engine
from executor.sandbox.intake import Listener
from executor.sandbox.outcome import OutcomeKind
from executor.sandbox.protocol import Launch, Procedure
from executor.sandbox.session import RunResult, Session, SessionLimits, cpu_seconds_backstop
from executor.sandbox.slot import Slot, WarmSlots, end_quietly, make_folders, open_slot
from executor.state.home import Home
from executor.state.owner import claim_run_folder, discard_run_folder, labels_for
from executor.transfer.inputs import link_tree
from executor.transfer.quarantine import Artifact, Quarantine
from signing.files import make_folder, open_appending

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
            plan=plan,
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


@dataclass(slots=True, kw_only=True)
class Stages:
    """Starts the containers of one run.

    Attributes:
        plan: What to run.
        image_id: Under which of its two pinned digests the engine has the image.
        run_id: For names and labels.
        folder: The run's folder, in which `in/` and `code/` are laid out before the job runs.
        context: The world.
        events: Told of progress.
        proxy_image_id: The same for the image of the egress proxy, where the plan has one.
        egress: Where the job could connect to, and what it tried; None where it has no way out.
    """

    plan: LaunchPlan
    image_id: str
    run_id: str
    folder: Path
    context: Context
    events: Events
    proxy_image_id: str | None = None
    egress: dict[str, Any] | None = None

    def run_job(self, log_folder: Path) -> tuple[RunResult, list[Artifact]]:
        """Run the job's own container; what it prints goes to two files, what it sends to quarantine.

        Raises:
            HostError: A host that the profile names has no address, or no container could be started.
        """
        plan, folder = self.plan, self.folder
        make_folder(folder / "quarantine", mode=0o755)
        quarantine = _quarantine(plan, folder)
        with ExitStack() as stack:
            proxy = self._start_proxy(stack, plan.egress) if plan.egress is not None else None
            logs = {
                name: stack.enter_context(open_appending(log_folder / f"{name}.log", mode=0o600))
                for name in ("stdout", "stderr")
            }

            def on_log(stream: str, data: bytes) -> None:
                logs[stream].write(data)
                self.events.emit("log", stream=stream, text=data.decode(errors="replace"))

            def on_progress(values: Mapping[str, float]) -> None:
                self.events.emit("progress", values=dict(values))

            result = self._session(
                "job",
                plan.job,
                {"in": folder / "in", "code": folder / "code"},
                _procedure(plan),
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

    def _start_proxy(self, stack: ExitStack, plan: EgressPlan) -> Proxy:
        """Look up where the job may connect to, and start what lets it; `stack` stops it."""
        assert self.proxy_image_id is not None, "admission found its image"
        context, longest = self.context, self.plan.longest_seconds
        destinations = resolve(
            plan.rules, today=context.now().date(), lookup=context.lookup, cancelled=context.cancelled
        )
        config = replace(plan.proxy, image_id=self.proxy_image_id)
        request = self._request("egress", config, wall_seconds=longest)
        proxy = Proxy(
            context.engine,
            request,
            destinations,
            users=context.home.users,
            wall_seconds=longest,
            cancelled=context.cancelled,
        )
        stack.callback(self._stop_proxy, proxy, destinations)
        proxy.start()
        return proxy

    def _request(self, role: str, config: SandboxConfig, *, wall_seconds: float) -> ContainerRequest:
        return ContainerRequest(
            name=f"sealed-executor-{self.run_id}-{role}",
            config=config,
            folder=self.folder / role,
            labels=labels_for(self.context.home, self.run_id, wall_seconds=wall_seconds),
        )

    def _stop_proxy(self, proxy: Proxy, destinations: Sequence[Destination]) -> None:
        self.egress = {"destinations": [d.to_wire() for d in destinations], **proxy.stop().to_wire()}
        self.events.emit("egress", **self.egress)

    def inspect(self, inspection: Inspection[Found], inputs: Mapping[str, str], folder: Path) -> tuple[Found, float]:
        """Ask a clean container about files, and parse its answer; return the seconds that it took, too.

        Args:
            inspection: What is asked.
            inputs: Where the container sees the files, by name.
            folder: Where they lie.

        Raises:
            HostError: It failed through no fault of what it read.
            Cancelled: Somebody asked to stop.
        """
        plan, kind = self.plan, inspection.kind
        plugins = {
            rule.name: {"path": f"/job/{rule.name}", "sha256": rule.sha256, "runtime": rule.runtime}
            for rule in plan.plugins.values()
        }
        params = {**inspection.params(), "plugins": plugins}
        self.events.emit("inspecting", stage=kind)
        result = self._session(
            kind,
            plan.inspection,
            {"in": folder, "code": self.folder / "plugins"},
            Procedure(kind=kind, params=params, inputs=inputs, outputs={}),
            quarantine=Quarantine(self.folder, declared={}, bytes_max=0, file_bytes_max=0, files_max=0),
            limits=SessionLimits(
                wall_seconds=plan.inspection_wall_seconds,
                idle_seconds=plan.inspection_wall_seconds,
                log_bytes=_INSPECTION_LOG_BYTES,
            ),
            listener=Listener(),
        )
        outcome, seconds = result.outcome, round(sum(result.seconds.values()), 4)
        if outcome.kind is OutcomeKind.CANCELLED:
            raise Cancelled("the run was cancelled")
        if outcome.kind is OutcomeKind.HOST_FAULT:
            raise HostError(f"the {kind} container failed: {outcome.reason}")
        succeeded = outcome.kind is OutcomeKind.SUCCEEDED
        return inspection.parse(result.result if succeeded else inspection.died(outcome.reason)), seconds

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
        config = replace(config, image_id=self.image_id)
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
            self.events.emit("started", warm=slot.warm)
        session = Session(
            self.context.engine,
            slot,
            limits=limits,
            quarantine=quarantine,
            listener=listener,
            cancelled=self.context.cancelled,
        )
        launch = Launch(
            procedure=procedure,
            seed=self.plan.seed,
            threads=config.threads,
            cpu_seconds=cpu_seconds_backstop(config.cpus, limits.wall_seconds),
            wall_seconds=limits.wall_seconds,
        )
        return session.run(launch)

    def _slot(self, role: str, kind: str, config: SandboxConfig, limits: SessionLimits) -> Slot:
        """Take a container that waits already, or start one."""
        context = self.context
        if context.pool is not None and (slot := context.pool.take(kind, config)) is not None:
            return slot
        request = self._request(role, config, wall_seconds=limits.wall_seconds)
        make_folders(request.folder)
        return open_slot(
            context.engine,
            request,
            users=context.home.users,
            kind=kind,
            preload=False,
            lease_seconds=_LAUNCH_SECONDS_MAX,
            cancelled=context.cancelled,
        )


def _procedure(plan: LaunchPlan) -> Procedure:
    """Return what the job's container is told to do."""
    return Procedure(
        kind=plan.kind,
        params=plan.params,
        inputs={name: f"/in/{name}" for name in plan.inputs},
        outputs={o.name: o.role for o in plan.outputs},
        entry=plan.code[1] if plan.code else None,
    )


def _quarantine(plan: LaunchPlan, folder: Path) -> Quarantine:
    """Return where the job's outputs go, under the plan's limits."""
    return Quarantine(
        folder / "quarantine",
        declared={o.name: o.role for o in plan.outputs},
        bytes_max=plan.output_bytes,
        file_bytes_max=plan.output_file_bytes,
        files_max=plan.output_files,
    )
