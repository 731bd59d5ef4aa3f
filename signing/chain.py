"""The chain of statements that a release, a denial or a failed job leaves: each names those before it by digest.

    request -> sandbox -> decision -> provenance -> release -> summary

A statement is named by the sha256 of its signed payload. Our own predicates list their parents as `parents`; SLSA's
have places of their own for them, which are used. Everything here works on statements whose signatures have been
checked.
"""

from collections.abc import Mapping
from typing import Any

from signing.encoding import canonical_json, sha256_hex
from signing.errors import VerificationError
from signing.evidence import Evidence
from signing.manifest import ARTIFACTS, DECISION, MANIFEST, PLAN, STAGES, Manifest, stage_path
from signing.statement import (
    PREDICATE_DECISION,
    PREDICATE_PROVENANCE,
    PREDICATE_RELEASE,
    PREDICATE_REQUEST,
    PREDICATE_SANDBOX,
    PREDICATE_SUMMARY,
    Statement,
)
from signing.value import Value

PREDICATE_OF = {
    "request": PREDICATE_REQUEST,
    "sandbox": PREDICATE_SANDBOX,
    "decision": PREDICATE_DECISION,
    "provenance": PREDICATE_PROVENANCE,
    "release": PREDICATE_RELEASE,
    "summary": PREDICATE_SUMMARY,
}
# The statements that each must name: the one before it; where the standard predicate lists inputs, all before it.
PARENTS_OF = {
    "request": (),
    "sandbox": ("request",),
    "decision": ("sandbox",),
    "provenance": ("request", "sandbox", "decision"),
    "release": ("provenance",),
    "summary": ("request", "sandbox", "decision", "provenance", "release"),
}
_STAGE_OF = {kind: stage for stage, kind in PREDICATE_OF.items()}
_PREFIX = "statement/"
_PROFILE = "urn:sealed-executor:profile:"


class Facts(Value):
    """What a release's chain says of how it came to be.

    Attributes:
        run_id: The run.
        builder_id: SLSA builder id: one for each runtime and network.
        image_sha256: Of the container image.
        policy_sha256: Of the effective policy.
        profile: The policy's profile.
        plan_sha256: Of the plan.
    """

    run_id: str
    builder_id: str
    image_sha256: str
    policy_sha256: str
    profile: str
    plan_sha256: str


def run_uri(run_id: str) -> str:
    """Return the resource that a verification summary is about."""
    return f"urn:sealed-executor:run:{run_id}"


def profile_uri(profile: str) -> str:
    """Return how a verification summary names the policy that it is by."""
    return f"{_PROFILE}{profile}"


def verified_level(profile: str) -> str:
    """Return the level of a verification summary: that a profile's policy allowed it. A word of our own, not SLSA's."""
    return f"SEALED_EXECUTOR_PROFILE_{profile.upper().replace('-', '_')}"


def parent(stage: str, statement: Statement) -> dict[str, Any]:
    """Return how a statement is named by one that follows it: an in-toto resource descriptor."""
    return {"name": f"{_PREFIX}{stage}", "uri": statement.predicate_type, "digest": {"sha256": statement.sha256}}


def reference(stage: str, sha256: str) -> dict[str, Any]:
    """Return how a statement is named of which the digest of the payload is known."""
    return {"name": f"{_PREFIX}{stage}", "uri": PREDICATE_OF[stage], "digest": {"sha256": sha256}}


def input_attestation(statement: Statement) -> dict[str, Any]:
    """Return how a verification summary names a statement (slsa.dev/spec/v1.1/verification_summary)."""
    return {"uri": statement.predicate_type, "digest": {"sha256": statement.sha256}}


def check_chain(found: Mapping[str, Evidence], manifest: Manifest, manifest_sha256: str) -> Facts:
    """Check that the statements of a release are one chain, about one run, and about these files.

    Args:
        found: Evidence by stage; all stages of a release.
        manifest: Its manifest.
        manifest_sha256: Digest of the manifest's bytes, in hex.

    Raises:
        VerificationError: They are not; it names the check and the statement.
    """
    subjects = _subjects(manifest, manifest_sha256)
    for stage in STAGES:
        try:
            _check_stage(stage, found, subjects, manifest.run_id)
        except (KeyError, TypeError, AttributeError, ValueError) as err:
            raise _fail("CHAIN", stage, f"lacks something, or holds it twice: {err}") from err
    signers = {evidence.signer for evidence in found.values()}
    if len(signers) != 1:
        raise _fail("CHAIN", "release", "is signed by somebody else than the rest of its chain")
    try:
        return _agreed_facts(found, manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise VerificationError(f"chain does not agree with itself: {err}", check="CHAIN") from err


def _check_stage(
    stage: str, found: Mapping[str, Evidence], subjects: Mapping[str, Mapping[str, str]], run_id: str
) -> None:
    statement = found[stage].statement
    if statement.predicate_type != PREDICATE_OF[stage]:
        raise _fail("STATEMENT", stage, "is of another kind")
    if dict(statement.subjects) != subjects[stage]:
        raise _fail("STATEMENT", stage, "is about other files than the manifest's")
    if run_id_in(stage, statement.predicate) != run_id:
        raise _fail("CHAIN", stage, "is of another run")
    wanted = {name: found[name].payload_sha256 for name in PARENTS_OF[stage]}
    if parents_in(stage, statement.predicate) != wanted:
        raise _fail("CHAIN", stage, "does not name the statements before it")


def _subjects(manifest: Manifest, manifest_sha256: str) -> dict[str, dict[str, str]]:
    """Return what each stage's statement must be about."""
    files = {f.path: f.sha256 for f in manifest.files}
    artifacts = {f.path: f.sha256 for f in manifest.artifacts}
    everything = files | {MANIFEST: manifest_sha256}
    return {
        "request": {PLAN: files.get(PLAN, "")},
        "sandbox": artifacts,
        "decision": artifacts | {DECISION: files.get(DECISION, "")},
        "provenance": everything,
        "release": everything,
        "summary": artifacts | {MANIFEST: manifest_sha256},
    }


def parents_in(stage: str, predicate: Mapping[str, Any]) -> dict[str, str]:
    """Return the statements that a stage's predicate names: digest by stage.

    Raises:
        ValueError: One stands twice.
    """
    if stage == "summary":
        named = [(_STAGE_OF[item["uri"]], item["digest"]["sha256"]) for item in predicate["inputAttestations"]]
    else:
        if stage == "provenance":
            listed = predicate["buildDefinition"]["resolvedDependencies"] + predicate["runDetails"]["byproducts"]
        else:
            listed = predicate["parents"]
        parents = [item for item in listed if item["name"].startswith(_PREFIX)]
        named = [(item["name"].removeprefix(_PREFIX), item["digest"]["sha256"]) for item in parents]
        if any(item["uri"] != PREDICATE_OF[item["name"].removeprefix(_PREFIX)] for item in parents):
            raise ValueError("a parent is named with another kind")
    if len(dict(named)) != len(named):
        raise ValueError("a parent is named twice")
    return dict(named)


def run_id_in(stage: str, predicate: Mapping[str, Any]) -> str:
    """Return the run that a stage's predicate is about."""
    if stage == "provenance":
        return str(predicate["runDetails"]["metadata"]["invocationId"])
    if stage == "summary":
        return str(predicate["resourceUri"]).removeprefix(run_uri(""))
    return str(predicate["run_id"])


def _agreed_facts(found: Mapping[str, Evidence], manifest: Manifest) -> Facts:
    """Return what the statements say, where those that say the same thing agree.

    Raises:
        VerificationError: They do not, or what was decided is not a release.
    """
    said = {stage: found[stage].statement.predicate for stage in STAGES}
    files = {f.path: f.sha256 for f in manifest.files}
    artifacts = {f.path: f.sha256 for f in manifest.artifacts}
    decision, summary = said["decision"]["decision"], said["summary"]
    if sha256_hex(canonical_json(decision)) != files[DECISION]:
        raise _fail("CHAIN", "decision", f"is not {DECISION}")
    if decision["allowed"] is not True or summary["verificationResult"] != "PASSED":
        raise _fail("CHAIN", "decision", "does not allow the release")
    if {f"{ARTIFACTS}/{name}": digest for name, digest in decision["artifacts"].items()} != artifacts:
        raise _fail("CHAIN", "decision", "was made on other artifacts")
    if summary["verifiedLevels"] != [verified_level(decision["profile"])]:
        raise _fail("CHAIN", "summary", "says more than was verified")
    definition = said["provenance"]["buildDefinition"]
    dependencies = definition["resolvedDependencies"]
    digests = {d["name"]: d["digest"]["sha256"] for d in dependencies}
    if len(digests) != len(dependencies):
        raise _fail("CHAIN", "provenance", "names a dependency twice")
    request = said["request"]
    policies = {
        (request["policy"]["profile"], request["policy"]["sha256"]),
        (decision["profile"], decision["policy_sha256"]),
        (definition["externalParameters"]["policy"]["profile"], digests["policy"]),
        (summary["policy"]["uri"].removeprefix(_PROFILE), summary["policy"]["digest"]["sha256"]),
    }
    plans = {files[PLAN], decision["plan_sha256"]}
    images = {request["image"]["id"], f"sha256:{digests['image']}"}
    for what, values in (("policy", policies), ("plan", plans), ("image", images)):
        if len(values) != 1:
            raise VerificationError(f"chain names more than one {what}", check="CHAIN")
    ((profile, policy_sha256),) = policies
    return Facts(
        run_id=manifest.run_id,
        builder_id=str(said["provenance"]["runDetails"]["builder"]["id"]),
        image_sha256=digests["image"],
        policy_sha256=str(policy_sha256),
        profile=str(profile),
        plan_sha256=files[PLAN],
    )


def _fail(check: str, stage: str, why: str) -> VerificationError:
    file = stage_path(stage)
    return VerificationError(f"statement {why}: {file}", check=check, file=file)
