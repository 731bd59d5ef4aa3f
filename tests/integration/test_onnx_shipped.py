"""No false denial: the models and node cases that the onnx package ships, under the profile for ONNX of any kind.

What is denied is of a preview domain, and listed here by number. Under the standard profile more is, by design.
"""

import hashlib
import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from executor.inspection.inventory import parse_inventories
from images.lock import load_lock
from policy.decision import check_static
from policy.load import load_policy
from tests.integration.conftest import Host
from tests.integration.workshop import complete_home

PREVIEW = ("ai.onnx.preview", "ai.onnx.preview.training")
# onnx 1.23.2
CASES, MODELS = 1884, 149
PREVIEW_CASES, PREVIEW_MODELS = 18, 2


class Described:
    def __init__(self, name: str) -> None:
        self.name, self.role = name, "model"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("onnx")
    packed = models(folder / "models.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECUTOR_HOME", str(folder / "home"))
        host = Host(folder)
        job = host.script_job(
            "onnx_shipped",
            {"name": "seen.json", "role": "report"},
            inputs={"models": {"uri": str(packed), "sha256": hashlib.sha256(packed.read_bytes()).hexdigest()}},
            limits={"wall_seconds": 1200, "idle_seconds": 300, "memory_bytes": 3 << 30, "tmp_bytes": 256 << 20},
        )
        done, target = host.run(job)
        assert done.code == 0, (done.json.get("outcome"), done.stderr)
        found: dict[str, dict[str, Any]] = json.loads((target / "artifacts/seen.json").read_text())
        return found


def models(target: Path) -> Path:
    """Pack the models that the wheel of the lock has."""
    (wheel,) = [i for i in load_lock("cpu").inputs if i.kind == "wheel" and i.name == "onnx"]
    with (
        zipfile.ZipFile(complete_home().blobs / wheel.sha256[:2] / wheel.sha256) as source,
        zipfile.ZipFile(target, "w") as packed,
    ):
        for name in source.namelist():
            if name.startswith("onnx/backend/test/data/") and name.endswith(".onnx"):
                packed.writestr(name, source.read(name))
    return target


def denials(reports: dict[str, Any]) -> dict[str, set[str]]:
    """Return the rules that deny each, by name."""
    policy, found = load_policy("onnx-standard"), {}
    for name, report in reports.items():
        wire = {"artifacts": {"m.onnx": report}, "plugins": {}, "environment": {}}
        artifacts = parse_inventories(wire, [Described("m.onnx")]).artifacts
        if rules := {f.rule for f in check_static(policy, artifacts, today=date(2026, 11, 24))}:
            found[name] = rules
    return found


def is_preview(report: dict[str, Any]) -> bool:
    return any(domain in PREVIEW for domain in report["facts"]["opset_imports"])


@pytest.mark.parametrize(
    ("kind", "count", "previews"), [("cases", CASES, PREVIEW_CASES), ("models", MODELS, PREVIEW_MODELS)]
)
def test_nothing_is_denied_but_previews(seen: dict[str, dict[str, Any]], kind: str, count: int, previews: int) -> None:
    assert len(seen[kind]) == count
    found = denials(seen[kind])
    others = {name: rules for name, rules in found.items() if not is_preview(seen[kind][name])}
    assert others == {}
    assert len(found) == previews
