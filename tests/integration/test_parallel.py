"""Several callers meet a new code and a new input at the same time: all of them release."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import LIMITS, Host

AT_ONCE = 8
CODE = """from worker.job import current
job = current()
job.output("said.txt", job.inputs["words"].read_text() + "{number}")
"""


def first_runs(host: Host, number: int) -> None:
    """Start runs at once of code and of an input that the state directory does not hold yet."""
    folder = host.folder / str(number)
    folder.mkdir()
    words = f"round {number} " * 1000
    (folder / "words.txt").write_text(words)
    (folder / "main.py").write_text(CODE.format(number=number))
    job = {
        "apiVersion": "executor/v1",
        "kind": "script",
        "code": {"path": "main.py"},
        "inputs": {"words": {"uri": "words.txt", "sha256": hashlib.sha256(words.encode()).hexdigest()}},
        "outputs": [{"name": "said.txt"}],
        "limits": LIMITS,
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = host.command("run", str(folder / "job.json"), "--json", "--out")
    runs = [
        subprocess.Popen([*command, str(folder / f"r{n}")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in range(AT_ONCE)
    ]
    for n, run in enumerate(runs):
        out, err = run.communicate(timeout=1200)
        assert run.returncode == 0, (number, n, err)
        assert json.loads(out)["status"] == "released"
    released = {(folder / f"r{n}/artifacts/said.txt").read_bytes() for n in range(AT_ONCE)}
    assert released == {f"{words}{number}".encode()}


def test_a_new_code_and_a_new_input_are_met_by_several_at_once(host: Host) -> None:
    first_runs(host, 0)


@pytest.mark.faults
def test_five_hundred_first_runs_release(host: Host, home: Path) -> None:
    for number in range(64):
        first_runs(host, number)
    assert len(list((home / "cas/code").iterdir())) == 64
