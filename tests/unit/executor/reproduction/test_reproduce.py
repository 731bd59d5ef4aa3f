"""A release's plan run again on a fake engine: what is signed of it, and that nothing is lost on the way."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError, RequestError
from executor.events import Events
from executor.reproduction.reproduce import Reproduction, Wanted, plan_again, reproduce
from executor.run.containers import Context
from signing.bundle import parse_bundle
from signing.errors import VerificationError
from signing.reproduction import Quorum
from signing.value import replaced
from signing.verify import NO_DEMANDS, verify_release
from tests.fakes.engine import FakeEngine, Script, Worker
from tests.unit.executor.run.test_journey import World, inventory, job, replay


def job_with(model: bytes) -> Script:
    def script(worker: Worker) -> None:
        worker.output("model.onnx", model, role="model")
        worker.output("v.npz", b"vectors", role="test-vectors")
        worker.finish({})

    return script


def inventory_of_model(worker: Worker) -> None:
    found = {"format": "onnx", "facts": {"ir_version": 10, "opset_imports": {"": 20}}, "operators": [], "findings": []}
    worker.finish({"artifacts": {"model.onnx": found}, "plugins": {}, "environment": {}})


def comparison(*, within: bool, seen: list[dict[str, Any]]) -> Script:
    def script(worker: Worker) -> None:
        seen.append(worker.launch["params"])
        tensor = {"name": "w", "shape": [2], "dtype": "float32", "max_abs": 1e-3, "max_rel": 1e-3, "elements": 1}
        report = {"tensors": [tensor | {"within": within}], "count": 1, "within": within}
        worker.finish({"artifacts": {"model.onnx": report}})

    return script


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    world = World(tmp_path, home)
    assert world.run(job, inventory(), replay())["status"] == "released"
    return world


def again(world: World, *scripts: Script, wanted: Wanted | None = None, run_id: str = "again") -> Reproduction:
    image_id = world.record()["plan"]["image"]["id"]
    world.engine = FakeEngine(*scripts, image_id=image_id)
    verified = verify_release(world.target, world.signer().expectations())
    return reproduce(
        world.target,
        verified,
        plan_again(world.target, verified),
        context=Context(home=world.home, engine=world.engine),
        events=Events(run_id, ()),
        run_id=run_id,
        tolerance=wanted or Wanted(),
        inputs=(),
        code=None,
    )


def reproduced(world: World, accept: Sequence[str] = ("identical",)) -> tuple[str, ...]:
    expect = world.signer().expectations()
    quorum = Quorum(threshold=1, among=(expect,), accept=tuple(accept))
    return verify_release(world.target, expect, replaced(NO_DEMANDS, reproduced=quorum)).reproductions


def test_the_same_bytes_are_a_reproduction_that_counts(world: World) -> None:
    done = again(world, job)
    assert (done.result, len(world.engine.requests)) == ("identical", 1), "nothing had to be loaded"
    assert reproduced(world) == (world.signer().expectations().subject,)
    assert list(world.home.runs.iterdir()) == []


def test_what_was_run_is_what_the_signed_statement_names(world: World) -> None:
    """Whatever lies under the statement's name by then: the parent is the one that was verified."""
    verified = verify_release(world.target, world.signer().expectations())

    def swap(worker: Worker) -> None:
        (world.target / "attestations/release.sigstore.json").write_bytes(b"{}")
        job(worker)

    done = again(world, swap)
    predicate = json.loads(parse_bundle(done.path.read_bytes()).payload)["predicate"]
    assert [p["digest"]["sha256"] for p in predicate["parents"]] == [verified.statement_sha256]


@pytest.mark.parametrize(
    ("wanted", "atol", "rtol"),
    [
        (Wanted(), 1e-5, 1e-5),
        (Wanted(atol=0.5), 0.5, 1e-5),
        (Wanted(rtol=0.0), 1e-5, 0.0),
        (Wanted(atol=1, rtol=2), 1, 2),
    ],
)
def test_what_is_not_said_of_the_tolerance_is_the_profiles(
    world: World, wanted: Wanted, atol: float, rtol: float
) -> None:
    seen: list[dict[str, Any]] = []
    done = again(world, job_with(b"other"), inventory_of_model, comparison(within=True, seen=seen), wanted=wanted)
    assert (seen[0]["atol"], seen[0]["rtol"]) == (atol, rtol)
    assert (done.result, done.predicate["tolerance"]) == ("within-tolerance", {"atol": atol, "rtol": rtol})
    assert len(reproduced(world, ("identical", "within-tolerance"))) == 1


@pytest.mark.parametrize(("atol", "rtol", "counts"), [(0.5, 1e-5, True), (0.4, 1e-5, False), (0.5, 9e-6, False)])
def test_a_tolerance_counts_where_it_is_what_the_verifier_means(
    world: World, atol: float, rtol: float, counts: bool
) -> None:
    far = Wanted(atol=0.5)
    assert (
        again(world, job_with(b"other"), inventory_of_model, comparison(within=True, seen=[]), wanted=far).result
        == "within-tolerance"
    )
    expect = world.signer().expectations()
    quorum = Quorum(threshold=1, among=(expect,), accept=("identical", "within-tolerance"), atol=atol, rtol=rtol)
    with contextlib.nullcontext() if counts else pytest.raises(VerificationError, match="reproduced by 0"):
        verify_release(world.target, expect, replaced(NO_DEMANDS, reproduced=quorum))


def test_a_weight_that_is_farther_apart_is_found(world: World) -> None:
    done = again(world, job_with(b"other"), inventory_of_model, comparison(within=False, seen=[]))
    verdicts = {a["name"]: a["verdict"] for a in done.predicate["artifacts"]}
    assert (done.result, verdicts) == ("different", {"model.onnx": "different", "v.npz": "identical"})
    assert again(world, job, run_id="and-again").result == "identical"
    with pytest.raises(VerificationError, match="came out different") as refused:
        reproduced(world)
    assert refused.value.check == "REPRODUCED"


def test_a_release_that_changes_meanwhile_is_not_compared(world: World) -> None:
    def swap(worker: Worker) -> None:
        (world.target / "artifacts/model.onnx").write_bytes(b"forged")
        inventory_of_model(worker)

    with pytest.raises(HostError, match="changed while it was read"):
        again(world, job_with(b"other"), swap, comparison(within=True, seen=[]))
    assert list(world.home.runs.iterdir()) == []


def test_where_no_reproduction_can_be_written_nothing_is_run(world: World) -> None:
    world.target.with_name("release.reproductions").write_text("a file")
    with pytest.raises(HostError, match="cannot write reproductions"):
        again(world, job)
    assert world.engine.requests == []


def test_a_signer_that_the_profile_does_not_want_reproduces_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.job.prepare.mode_of", lambda _: "other")
    monkeypatch.setattr("executor.job.prepare._SIGNERS", {"other": "somebody else"})
    with pytest.raises(RequestError, match="does not let somebody else sign"):
        again(world, job)
    assert world.engine.requests == []
