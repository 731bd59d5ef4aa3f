"""The decision: a pure function of policy and inspection. What no rule allows is denied, with rule, place and remedy.

Two stages, each default deny. `check_static` holds the inventories against the policy before anything is loaded;
`check_replay` holds what the real runtimes did. A job is allowed when both return no denial.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from policy.inspection import ArtifactInventory, ModelReplay, PluginInventory
from policy.model import OperatorRule, PluginRule, Policy

MODEL_FORMATS = ("onnx", "torchscript", "pt2")
_REMEDY_OPERATOR = (
    "export the model without this operator, or have a reviewer add it to policy/operators with a reason and test cases"
)
_REMEDY_PLUGIN = "list the library as it is, under policy/plugins: `executor policy inventory` says what it is"
_LOADED = "loaded graph"
_BY_DEFAULT = "-DEFAULT-DENY"
_REMEDY_STRUCTURE = "make the artifact with the image's tools, which leave it out; policy/README.md lists the findings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason to deny.

    Attributes:
        rule: Identifier of the rule that denies.
        artifact: Name of the artifact.
        place: Where in it.
        detail: What was found there.
        remedy: What its maker can do.
        operator: Namespace and name, where it is about one.
    """

    rule: str
    artifact: str
    place: str
    detail: str
    remedy: str
    operator: tuple[str, str] | None = None

    def to_wire(self) -> dict[str, str]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "operator"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Allowed only where there is no finding and something was decided on.

    Attributes:
        findings: All reasons to deny.
        waived: What would be reasons to deny, but for a waiver that is named in each.
        artifacts: Name and sha256, in hex, of what was decided on: the evidence, and no other bytes of that name.
    """

    findings: tuple[Finding, ...]
    artifacts: tuple[tuple[str, str], ...]
    waived: tuple[Finding, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether everything may be released."""
        return bool(self.artifacts) and not self.findings


def decide(
    policy: Policy,
    inventories: Sequence[ArtifactInventory],
    replays: Sequence[ModelReplay] | None,
    *,
    tolerance: tuple[float, float],
    artifacts: Sequence[tuple[str, str]],
    today: date,
    plugins: Sequence[PluginInventory] = (),
) -> Decision:
    """Decide on everything that the inspections reported.

    Args:
        policy: The effective policy.
        inventories: One per artifact.
        replays: One per model, or None where nothing was loaded: the static check had denied, or there was no model.
        tolerance: The (atol, rtol) that the replay used.
        artifacts: Name and sha256, in hex, of what was inspected.
        today: For rules that expire.
        plugins: The libraries of custom operators that the job names, all of them the policy's.
    """
    findings = check_static(policy, inventories, today=today, plugins=plugins)
    denied, _ = _apart(policy, findings, inventories, artifacts, today)
    if not denied:
        findings += check_replay(policy, inventories, replays or (), tolerance=tolerance, today=today, plugins=plugins)
    denied, waived = _apart(policy, findings, inventories, artifacts, today)
    return Decision(findings=tuple(denied), waived=tuple(waived), artifacts=tuple(artifacts))


def denies(
    policy: Policy,
    inventories: Sequence[ArtifactInventory],
    *,
    artifacts: Sequence[tuple[str, str]],
    today: date,
    plugins: Sequence[PluginInventory] = (),
) -> bool:
    """Whether what is known before anything is loaded is reason enough to deny. Arguments as for `decide`."""
    findings = check_static(policy, inventories, today=today, plugins=plugins)
    return bool(_apart(policy, findings, inventories, artifacts, today)[0])


def _apart(
    policy: Policy,
    findings: Iterable[Finding],
    inventories: Sequence[ArtifactInventory],
    artifacts: Sequence[tuple[str, str]],
    today: date,
) -> tuple[list[Finding], list[Finding]]:
    """Split findings into those that deny, and those that a waiver lets pass."""
    digests, forms = dict(artifacts), {a.name: a.format for a in inventories}
    denied, waived = [], []
    for finding in findings:
        waiver = next(
            (
                w
                for w in policy.profile.waiver
                if finding.operator == (w.namespace, w.name)
                and finding.rule == f"{w.format.upper()}{_BY_DEFAULT}"
                and w.format == forms.get(finding.artifact)
                and w.artifact_sha256 == digests.get(finding.artifact)
                and w.reviewed <= today <= w.expires
            ),
            None,
        )
        if waiver is None:
            denied.append(finding)
        else:
            waived.append(replace(finding, remedy=f"waived by {waiver.id} until {waiver.expires}"))
    return denied, waived


def check_static(
    policy: Policy,
    inventories: Sequence[ArtifactInventory],
    *,
    today: date,
    plugins: Sequence[PluginInventory] = (),
) -> list[Finding]:
    """Hold the static inventories against the policy.

    Args:
        policy: The effective policy.
        inventories: One per artifact; none at all is a finding, never a pass.
        today: For rules that expire.
        plugins: The plugins in use.
    """
    if not inventories:
        return [
            _finding("RELEASE-EMPTY", "", "release", "no artifact was sent", "declare and send at least one output")
        ]
    used = {plugin.name: plugin for plugin in plugins}
    findings = list(_check_plugins(policy, used))
    for artifact in inventories:
        findings += _check_format(policy, artifact)
        findings += _check_operators(policy, artifact, used, today)
        findings += [_finding(f.id, artifact.name, f.place, f.detail, _REMEDY_STRUCTURE) for f in artifact.findings]
        if artifact.format == "onnx":
            findings += _check_versions(policy, artifact)
            findings += _check_domains(policy, artifact, used)
    return findings


def check_replay(
    policy: Policy,
    inventories: Sequence[ArtifactInventory],
    replays: Sequence[ModelReplay],
    *,
    tolerance: tuple[float, float],
    today: date,
    plugins: Sequence[PluginInventory] = (),
) -> list[Finding]:
    """Hold what the real runtimes did against the policy.

    Args:
        policy: The effective policy.
        inventories: All artifacts.
        replays: One per model.
        tolerance: The (atol, rtol) that the replay used.
        today: For rules that expire.
        plugins: The plugins in use.
    """
    used = {plugin.name: plugin for plugin in plugins}
    profile = policy.profile.replay
    findings: list[Finding] = []
    models = {a.name: a for a in inventories if a.format in MODEL_FORMATS}
    if models and (tolerance[0] > profile.atol_max or tolerance[1] > profile.rtol_max):
        findings.append(
            _finding(
                "REPLAY-TOLERANCE",
                "",
                "replay",
                f"replayed with tolerance {tolerance}",
                "build the image of this profile anew",
            )
        )
    replayed = {r.name: r for r in replays}
    for name, artifact in models.items():
        replay = replayed.get(name)
        if replay is None or replay.error:
            detail = replay.error if replay else "the model was not replayed"
            findings.append(
                _finding("REPLAY-FAILED", name, "load and replay", detail, "check that the file loads afresh")
            )
            continue
        findings += _check_cases(policy, replay)
        findings += _check_loaded_operators(policy, artifact, replay, used, today)
        findings += _check_registered(policy, artifact, replay, used)
    return findings


def _check_format(policy: Policy, artifact: ArtifactInventory) -> Iterable[Finding]:
    rule = next((f for f in policy.profile.format if f.format == artifact.format), None)
    if rule is None:
        allowed = ", ".join(f.format for f in policy.profile.format)
        detail = f"its content is {artifact.format}"
        return [_finding("FORMAT-NOT-ALLOWED", artifact.name, "content", detail, f"release one of: {allowed}")]
    findings = []
    if artifact.role not in rule.roles:
        detail = f"{artifact.format} as role {artifact.role!r}"
        findings.append(_finding("FORMAT-ROLE", artifact.name, "role", detail, f"declare it as {rule.roles[0]!r}"))
    if not artifact.name.endswith(rule.suffixes):
        detail = f"content is {artifact.format}, the name says otherwise"
        findings.append(_finding("FORMAT-NAME", artifact.name, "name", detail, f"end the name in {rule.suffixes[0]}"))
    return findings


def _check_operators(
    policy: Policy, artifact: ArtifactInventory, plugins: Mapping[str, PluginInventory], today: date
) -> Iterable[Finding]:
    for use in artifact.operators:
        denial = operator_denial(policy, artifact.format, use.namespace, use.name, today=today, plugins=plugins)
        if denial is not None:
            place = "; ".join(use.places) or "file"
            detail = f"operator {use.label} ({use.count}x): {denial[1]}"
            operator = (use.namespace, use.name)
            yield replace(_finding(denial[0], artifact.name, place, detail, denial[2]), operator=operator)


def _check_loaded_operators(
    policy: Policy,
    artifact: ArtifactInventory,
    replay: ModelReplay,
    plugins: Mapping[str, PluginInventory],
    today: date,
) -> Iterable[Finding]:
    """The second opinion: what the loader made of the file must be allowed, and must be what the file says."""
    listed = {(use.namespace, use.name) for use in artifact.operators}
    made = {
        (rule.namespace, name)
        for rule in (policy.operators[artifact.format].rule if artifact.format in policy.operators else ())
        if rule.loader_makes
        for name in rule.names
    }
    for label in replay.operators:
        namespace, _, name = label.partition("::")
        denial = operator_denial(policy, artifact.format, namespace, name, today=today, plugins=plugins)
        if denial is not None:
            found = _finding(denial[0], artifact.name, _LOADED, f"operator {label}: {denial[1]}", denial[2])
            yield replace(found, operator=(namespace, name))
        elif (namespace, name) not in listed | made:
            detail = f"operator {label}: the file does not name it"
            yield _finding("REPLAY-UNLISTED-OPERATOR", artifact.name, _LOADED, detail, _REMEDY_STRUCTURE)


def _check_registered(
    policy: Policy, artifact: ArtifactInventory, replay: ModelReplay, plugins: Mapping[str, PluginInventory]
) -> Iterable[Finding]:
    """What the registry gained must be what the plugins in use are listed with, no more and no less."""
    fitting = [policy.plugins[name] for name in plugins if artifact.format in policy.plugins[name].formats]
    wanted = {label for plugin in fitting for label in plugin.operators}
    for label in sorted(wanted ^ set(replay.registered)):
        detail = (
            f"operator {label} is {'listed and not registered' if label in wanted else 'registered and not listed'}"
        )
        yield _finding("PLUGIN-REGISTERED", artifact.name, "registry", detail, _REMEDY_PLUGIN)


def _check_plugins(policy: Policy, plugins: Mapping[str, PluginInventory]) -> Iterable[Finding]:
    """What the libraries are must be what they are listed as."""
    for name, found in sorted(plugins.items()):
        rule = policy.plugins[name]
        for what, listed, actual in (
            ("SONAME", rule.soname, found.soname),
            ("NEEDED", ", ".join(rule.needed), ", ".join(found.needed)),
            ("ABI", rule.abi, found.abi),
        ):
            if listed != actual:
                yield _finding(
                    "PLUGIN-ELF", "", f"plugin {name}", f"{what} is {actual}, listed {listed}", _REMEDY_PLUGIN
                )
        for finding in found.findings:
            yield _finding(finding.id, "", f"plugin {name}: {finding.place}", finding.detail, _REMEDY_PLUGIN)


def operator_denial(
    policy: Policy,
    form: str,
    namespace: str,
    name: str,
    *,
    today: date,
    plugins: Iterable[str] = (),
) -> tuple[str, str, str] | None:
    """Return rule, reason and remedy of the denial of an operator, or None where a rule or a plugin in use allows it.

    Args:
        policy: The effective policy.
        form: The format that the operator stands in.
        namespace: Its namespace; empty for ONNX's standard domain.
        name: Its name.
        today: For rules that expire.
        plugins: The names of the plugins that are in use.
    """
    rules = policy.operators.get(form)
    matching: list[OperatorRule] = []
    if rules is not None:
        matching = [r for r in rules.rule if r.namespace == namespace and name in r.names]
    for rule in matching:
        if rule.effect == "deny":
            return rule.id, rule.reason, rule.remedy or _REMEDY_OPERATOR
    listed = [p for p in policy.plugins.values() if p.has(form, namespace, name)]
    candidates: list[OperatorRule | PluginRule] = [*matching, *(p for p in listed if p.name in plugins)]
    for allowing in candidates:
        if allowing.expires is None or today <= allowing.expires:
            return None
        return allowing.id, f"the rule that allowed it expired on {allowing.expires}", "have the rule reviewed again"
    for plugin in listed:
        remedy = f"name an input with the bytes of plugin {plugin.name!r} in the job's `plugins`"
        return f"{form.upper()}{_BY_DEFAULT}", f"it is of plugin {plugin.name!r}, which the job does not load", remedy
    return f"{form.upper()}{_BY_DEFAULT}", "no rule allows it", _REMEDY_OPERATOR


def _check_versions(policy: Policy, artifact: ArtifactInventory) -> Iterable[Finding]:
    of_other_domains = artifact.domains and all(use.namespace for use in artifact.operators)
    for what, value, allowed in (
        ("opset", artifact.opset, policy.profile.onnx_opset),
        ("IR", artifact.ir_version, policy.profile.onnx_ir),
    ):
        if what == "opset" and value is None and of_other_domains:
            continue  # which need not import the standard one
        if value is None or not allowed.min <= value <= allowed.max:
            remedy = f"export with {what} {allowed.min} to {allowed.max}"
            yield _finding(f"ONNX-{what.upper()}-RANGE", artifact.name, what, f"{what} version {value}", remedy)


def _check_domains(
    policy: Policy, artifact: ArtifactInventory, plugins: Mapping[str, PluginInventory]
) -> Iterable[Finding]:
    """A domain beside the standard one may be imported where a rule or a plugin in use allows operators in it."""
    rules = policy.operators[artifact.format].rule if artifact.format in policy.operators else ()
    known = {rule.namespace for rule in rules if rule.effect == "allow"} | {
        label.partition("::")[0]
        for name in plugins
        if artifact.format in policy.plugins[name].formats
        for label in policy.plugins[name].operators
    }
    for domain in artifact.domains:
        if domain not in known:
            detail = f"imports the domain {domain!r}, which no rule and no plugin in use has"
            yield _finding("ONNX-OPSET-IMPORT", artifact.name, "opset_import", detail, _REMEDY_STRUCTURE)


def _check_cases(policy: Policy, replay: ModelReplay) -> Iterable[Finding]:
    needed = policy.profile.replay
    if len(replay.cases) < needed.cases_min:
        detail = f"{len(replay.cases)} test vectors, the profile wants {needed.cases_min}"
        remedy = "send an NPZ with role test-vectors and NAME.expected for every case"
        yield _finding("REPLAY-CASES", replay.name, "test vectors", detail, remedy)
    for case in replay.cases:
        if not case.max_abs <= case.allowed:
            detail = f"differs by {case.max_abs:.3g}, allowed is {case.allowed:.3g}"
            yield _finding("REPLAY-DIFFERENCE", replay.name, f"case {case.case}", detail, "check the export")
        if not case.argmax_agreement >= needed.argmax_agreement_min:
            detail = f"argmax agrees on {case.argmax_agreement:.4f} of the rows"
            yield _finding("REPLAY-ARGMAX", replay.name, f"case {case.case}", detail, "check the export")


def _finding(rule: str, artifact: str, place: str, detail: str, remedy: str) -> Finding:
    return Finding(rule=rule, artifact=artifact, place=place, detail=detail, remedy=remedy)
