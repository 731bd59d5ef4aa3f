"""What a deploy pipeline insists on, from a file: who may sign, what a release must be, who must have reproduced it.

TOML with a schema (signing/schema/verification-policy.schema.json). Unknown and missing fields are refused: a misspelt
demand must not become no demand. Paths in it are relative to it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from signing.errors import SigningError, VerificationError
from signing.evidence import Expectations, Expected
from signing.files import read_named
from signing.pem import expect_keys
from signing.statement import GOOD_RESULTS
from signing.value import Value, replaced
from signing.verify import NO_DEMANDS, Demands, Verified, verify_release

if TYPE_CHECKING:
    from signing.trust import TrustRoot

Found = TypeVar("Found")
POLICY_SCHEMA = "executor.verification-policy/v1"
MODE_CHECKS = ("exact", "executable")
_CERTIFIED = ("trust_root", "identity", "identity_pattern", "issuer", "issuer_pattern")
_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
# Checks that say whose a bundle is, in the order in which they are made; all others come after these.
_WHO_CHECKS = ("IDENTITY", "CERTIFICATE", "LOG", "REVOKED")


class ExpectationError(SigningError):
    """What a verifier was told to insist on makes no sense."""

    code = "E-EXPECTATION"


class VerificationPolicy(Value):
    """Who may sign, any one of them for all of a release, and what is demanded of it."""

    signers: tuple[Expectations, ...]
    demands: Demands


def load_verification_policy(path: Path) -> VerificationPolicy:
    """Read a verification policy.

    Raises:
        ExpectationError: It is none, or says something that is not known.
        VerificationError: A trust root or a key that it names is missing or malformed.
    """
    import tomllib

    try:
        document = tomllib.loads(read_named(path).decode())
        return _parse(document, path.parent)
    except OSError as err:
        raise ExpectationError(f"cannot read the verification policy: {path}: {err.strerror}") from err
    except (ValueError, RecursionError) as err:
        raise ExpectationError(f"invalid verification policy: {path}: {err}", hint="see signing/README.md") from err


def verify_by_policy(folder: Path, policy: VerificationPolicy) -> Verified:
    """Verify a release against a policy.

    Raises:
        VerificationError: It does not hold.
    """
    return under_one_of(policy.signers, lambda signer: verify_release(folder, signer, policy.demands))


def under_one_of(signers: Sequence[Expectations], verify: Callable[[Expectations], Found]) -> Found:
    """Return what holds under the first of the signers whose it is.

    Raises:
        VerificationError: It holds under none of them; the error is that of the signer under whom most held, and says
            of each why it is not his where it is nobody's.
    """
    errors: list[VerificationError] = []
    for signer in signers:
        try:
            return verify(signer)
        except VerificationError as err:
            errors.append(err)
    deepest = max(errors, key=_depth)
    if len(errors) == 1 or _depth(deepest) > _WHO_CHECKS.index("CERTIFICATE"):
        raise deepest
    why = "; ".join(dict.fromkeys(e.message for e in errors))
    raise VerificationError(f"signed by none of those who may: {why}", check=deepest.check, file=deepest.file)


def _depth(error: VerificationError) -> int:
    return _WHO_CHECKS.index(error.check) if error.check in _WHO_CHECKS else len(_WHO_CHECKS)


def expected_signer(
    trust: "TrustRoot",
    *,
    identity: str | None = None,
    identity_pattern: str | None = None,
    issuer: str | None = None,
    issuer_pattern: str | None = None,
) -> Expectations:
    """Return expectations of a certified identity; where none is named, that which the trust document names.

    Args:
        trust: Whose word counts.
        identity: Exact subject.
        identity_pattern: Regular expression that the whole subject must match.
        issuer: Exact issuer.
        issuer_pattern: Regular expression that the whole issuer must match.

    Raises:
        ValueError: Nobody is named, or somebody twice, or a pattern is malformed.
    """
    subject = expected("identity", identity, identity_pattern) or trust.subject
    by = expected("issuer", issuer, issuer_pattern) or trust.issuer
    if not subject or not by:
        raise ValueError("name the identity and its issuer: the trust root does not say whom to expect")
    return Expectations(trust=trust, subject=subject, issuer=by)


def expected(what: str, exact: str | None, pattern: str | None) -> Expected | None:
    """Return what is expected of a text, or None where nothing is said.

    Raises:
        ValueError: Both are said, one is empty or not ASCII, or the pattern is malformed.
    """
    if exact is not None and pattern is not None:
        raise ValueError(f"{what} is named both exactly and by a pattern")
    text = exact if exact is not None else pattern
    if text is None:
        return None
    if not text or not text.isascii():  # an unset variable must not mean "anybody"
        raise ValueError(f"{what} is not a name: {text!r}; is a variable unset?")
    try:
        return text if pattern is None else re.compile(text)
    except (re.error, OverflowError, RecursionError) as err:
        raise ValueError(f"{what}'s pattern is malformed: {text!r}: {err}") from err


def expected_digest(what: str, text: str | None) -> str | None:
    """Return a sha256 in hex, given with or without its name, or None where nothing is said.

    Raises:
        ValueError: It is none.
    """
    if text is None:
        return None
    match = _HEX.fullmatch(text)
    if match is None:
        raise ValueError(f"{what} is not a sha256: {text!r}")
    return match[1].lower()


def _parse(document: Mapping[str, Any], base: Path) -> VerificationPolicy:
    """Check the form of all of it before any file that it names is read."""
    _known(document, "policy", "schema", "signer", "release", "reproduced", "reproducer")
    if document.get("schema") != POLICY_SCHEMA:
        raise ValueError(f"schema is {document.get('schema')!r}, not {POLICY_SCHEMA!r}")
    signers, reproducers = _signer_tables(document, "signer"), _signer_tables(document, "reproducer")
    if not signers:
        raise ValueError("no signer is named")
    if reproducers and "reproduced" not in document:
        raise ValueError("reproducers are named, and no number of them is wanted")
    demands = _demands(_table(document, "release"))
    wanted = _reproduced(_table(document, "reproduced")) if "reproduced" in document else None
    may_sign = tuple(_signer(item, base) for item in signers)
    if wanted is not None:
        from signing.reproduction import Quorum

        among = tuple(_signer(item, base) for item in reproducers) or may_sign
        demands = replaced(demands, reproduced=Quorum(among=among, **wanted))
    return VerificationPolicy(signers=may_sign, demands=demands)


def _signer_tables(document: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(item, dict) for item in tables):
        raise ValueError(f"{name} is not a list of tables: write [[{name}]]")
    for number, item in enumerate(tables, 1):
        where = f"{name} {number}"
        _strings(item, where, *(("key",) if "key" in item else _CERTIFIED))
        if not item.keys() & {"key", "trust_root"}:
            raise ValueError(f"{where} names neither a key nor a trust_root")
        for who in ("identity", "issuer"):
            expected(f"{where}'s {who}", item.get(who), item.get(f"{who}_pattern"))
    return tables


def _signer(item: Mapping[str, str], base: Path) -> Expectations:
    if "key" in item:
        return expect_keys([base / item["key"]])
    from signing.trust import load_trust_root  # whoever expects a key starts without it

    named = {name: value for name, value in item.items() if name != "trust_root"}
    return expected_signer(load_trust_root(base / item["trust_root"]), **named)


def _demands(item: Mapping[str, Any]) -> Demands:
    _strings(item, "release", "builder", "builder_pattern", "image", "policy", "profile", "modes")
    modes = item.get("modes", MODE_CHECKS[0])
    if modes not in MODE_CHECKS:
        raise ValueError(f"modes is one of {', '.join(MODE_CHECKS)}, not {modes!r}")
    profile = expected("profile", item.get("profile"), None)
    assert profile is None or isinstance(profile, str), "not asked for by a pattern"
    return replaced(
        NO_DEMANDS,
        builder_id=expected("builder", item.get("builder"), item.get("builder_pattern")),
        image_sha256=expected_digest("image", item.get("image")),
        policy_sha256=expected_digest("policy", item.get("policy")),
        profile=profile,
        exact_modes=modes == MODE_CHECKS[0],
    )


def _reproduced(item: Mapping[str, Any]) -> dict[str, Any]:
    _known(item, "reproduced", "threshold", "accept", "atol", "rtol")
    threshold, accept = item.get("threshold"), item.get("accept", list(GOOD_RESULTS[:1]))
    if type(threshold) is not int or threshold < 1:
        raise ValueError(f"reproduced's threshold is not a whole number from 1 on: {threshold!r}")
    if not isinstance(accept, list) or not accept or any(result not in GOOD_RESULTS for result in accept):
        raise ValueError(f"reproduced's accept lists some of {', '.join(GOOD_RESULTS)}, not {accept!r}")
    near = {name: item[name] for name in ("atol", "rtol") if name in item}
    for name, value in near.items():
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            raise ValueError(f"reproduced's {name} is not a finite number from 0 on: {value!r}")
    return {"threshold": threshold, "accept": tuple(accept), **near}


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not a table: write [{name}]")
    return table


def _strings(item: Mapping[str, Any], where: str, *names: str) -> None:
    _known(item, where, *names)
    for name, value in item.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"{where}'s {name} is not a string that says something: {value!r}")


def _known(item: Mapping[str, Any], where: str, *names: str) -> None:
    if unknown := sorted(item.keys() - set(names)):
        raise ValueError(f"{where} has an unknown field {unknown[0]!r}; known are {', '.join(names)}")
