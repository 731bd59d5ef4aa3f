"""What signing and verifying cost, beside the field's tools in the same run: `make bench`. CPU seconds, medians.

Whole processes are started anew for each measurement. Ratios are to the tool of the row that says 1.00.
"""

import functools
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from executor.cli.trust.export import client_config
from executor.release.gate import approve
from executor.release.publish import release
from executor.transfer.quarantine import Artifact
from policy.decision import Decision
from signing.domain import TRUSTED_ROOT
from signing.keyless import KeylessSigner, TokenSource
from signing.local import LocalTrustDomain, open_or_create
from signing.modes import choose_key, open_signer
from signing.signer import Signer
from signing.statement import Statement
from tests.fakes.services import IDENTITY, ISSUER, identity_token, running_sigstore
from tests.unit.signing.conftest import make_content, make_release

RUNS = 11
LARGE_FILES = [419_430_400] * 4 + [20_971_520] * 20 + [4096] * 3
SMALL_FILES = [4096] * 5000


def main() -> None:
    """Print the tables; nothing passes or fails on a time."""
    with tempfile.TemporaryDirectory() as name, running_sigstore(Path(name)) as config:
        folder = Path(name)
        os.environ["EXECUTOR_BENCH_TOKEN"] = identity_token(seconds=3600)
        domain = open_or_create(folder / "trust", now=datetime.now(UTC))
        signing_one(domain)
        verifying_cold(folder, config, domain)
        for title, sizes, runs in (("2.1 GB in 27 files", LARGE_FILES, 7), ("5,000 files of 4 KiB", SMALL_FILES, 7)):
            signing_many(folder, title, sizes, runs, domain)


def signing_one(domain: LocalTrustDomain) -> None:
    """One statement at a time, warm, with a certificate, a log entry and its proofs each."""
    statement = Statement(subjects={"a": "0" * 64}, predicate_type="urn:x", predicate={"n": 1})
    times = []
    for _ in range(200):
        before = time.process_time()
        domain.sign([statement], now=datetime.now(UTC))
        times.append(time.process_time() - before)
    print(f"signing one statement, local, warm: {statistics.median(times) * 1000:.2f} ms CPU (200 runs)\n")


def verifying_cold(folder: Path, config: Path, domain: LocalTrustDomain) -> None:
    """Whole processes: a release with its full chain here, one bundle or one model with the others."""
    choose_key(folder / "key-trust", key=None, passphrase=None)
    key = open_signer(folder / "key-trust", now=datetime.now(UTC), passphrase=None)
    source = TokenSource(variable="EXECUTOR_BENCH_TOKEN")
    keyless = KeylessSigner(config, token=source, subject=IDENTITY, issuer=ISSUER)
    made = {n: make_release(folder, s, n, also_oms=True) for n, s in signers(domain, keyless, key)}
    local_config, public = folder / "local_config.json", folder / "key-trust/public.pem"
    local_config.write_text(json.dumps(client_config(json.loads((domain.folder / TRUSTED_ROOT).read_bytes()))))
    plain, token = folder / "plain", os.environ["EXECUTOR_BENCH_TOKEN"]
    plain.write_text("plain")
    sigstore = f"sigstore --trust-config {config}"
    cpu_of(python(f"{sigstore} sign --rekor-version 1 --identity-token {token} {plain}"))
    who = f"--identity {domain.identity.subject} --identity_provider {domain.identity.issuer}"
    oms = {name: f"--signature {path}/model.sig {path}/artifacts" for name, path in made.items()}
    commands = {
        "sigstore verify identity --offline": f"{sigstore} verify identity --offline --cert-identity {IDENTITY}"
        f" --cert-oidc-issuer {ISSUER} {plain}",
        "model_signing verify sigstore": "model_signing verify sigstore"
        f" --trust_config {local_config} {who} {oms['local']}",
        "model_signing verify key": f"model_signing verify key --public_key {public} {oms['key']}",
        "executor verify, keyless": f"executor verify {made['keyless']} --trust-root {config}"
        f" --identity {IDENTITY} --issuer {ISSUER}",
        "executor verify, local": f"executor verify {made['local']} --trust-root {folder}/trust/trust.json",
        "executor verify, key": f"executor verify {made['key']} --key {public}",
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):  # in turn, so that a neighbour's load falls on all of them
        for name, command in commands.items():
            times[name].append(cpu_of(python(command)))
    first = statistics.median(next(iter(times.values())))
    print(f"{'verifying, whole process, cold':40}{'ms CPU':>8}{'least':>8}{'ratio':>8}")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:40}{median * 1000:8.0f}{min(found) * 1000:8.0f}{median / first:8.2f}")
    print()


def signers(domain: Signer, keyless: Signer, key: Signer) -> list[tuple[str, Signer]]:
    """Return the three modes' signers by name."""
    return [("local", domain), ("keyless", keyless), ("key", key)]


def python(command: str) -> list[str]:
    """Return the command line of a Python module with its arguments, in which there are no spaces."""
    return [sys.executable, "-I", "-m", *command.split()]


def cpu_of(command: Sequence[str]) -> float:
    """Run a command; return its user and system CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def signing_many(folder: Path, title: str, sizes: Sequence[int], runs: int, domain: LocalTrustDomain) -> None:
    """Staging, hashing, signing and verifying a release, beside hashlib over the same bytes and model_signing."""
    source = folder / f"source-{len(sizes)}"
    source.mkdir()
    block = os.urandom(1 << 20)
    for number, size in enumerate(sizes):
        with (source / f"{number:05}").open("wb") as file:
            for at in range(0, size, len(block)):
                file.write(block[: min(len(block), size - at)])
    files = sorted(source.iterdir())
    artifacts = [Artifact(name=f.name, role="data", size=f.stat().st_size, sha256=sha256(f), path=f) for f in files]
    key = folder / "key-trust/signing.key"
    rows: dict[str, list[float]] = {
        "hashlib over the same bytes": [],
        "executor: release": [],
        "model_signing sign": [],
    }
    for number in range(runs):
        rows["hashlib over the same bytes"].append(cpu_here(lambda: [sha256(f) for f in files]))
        target = f"{len(sizes)}-{number}"
        work = functools.partial(sign, folder, artifacts, target, domain)
        rows["executor: release"].append(cpu_in_child(work))
        command = f"model_signing sign key --private_key {key} --signature {folder}/sig-{target} {source}"
        rows["model_signing sign"].append(cpu_of(python(command)))
    first = statistics.median(rows["hashlib over the same bytes"])
    print(f"{title:40}{'s CPU':>8}{'beyond':>8}{'ratio':>8}")
    for name, found in rows.items():
        median = statistics.median(found)
        print(f"{name:40}{median:8.2f}{median - first:8.2f}{median / first:8.2f}")
    print(f"{'executor: most memory':40}{PEAK[0] / 1024:8.0f} MB\n")


PEAK = [0.0]


def sign(folder: Path, artifacts: Sequence[Artifact], name: str, domain: LocalTrustDomain) -> None:
    """Make a release of artifacts, from the gate's word on."""
    gated = approve(Decision(findings=(), artifacts=tuple((a.name, a.sha256) for a in artifacts)), artifacts)
    release(
        gated,
        make_content(name, gated),
        target=folder / name,
        signer=domain,
        now=lambda: datetime.now(UTC),
        before_naming=lambda _: None,
    )


def sha256(path: Path) -> str:
    """Hash a file as hashlib does it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cpu_here(work: Callable[[], object]) -> float:
    """Do something; return its CPU seconds."""
    before = time.process_time()
    work()
    return time.process_time() - before


def cpu_in_child(work: Callable[[], object]) -> float:
    """Do something in a forked process; return its CPU seconds, and keep the most memory that it had, in KiB."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        spent = cpu_here(work)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writer, f"{spent} {most}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        spent, peak = map(float, pipe.read().split())
    os.waitpid(pid, 0)
    PEAK[0] = max(PEAK[0], peak)
    return spent


if __name__ == "__main__":
    main()
