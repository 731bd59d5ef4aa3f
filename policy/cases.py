"""The cases of the rules, tried: whether each rule still does what its reviewer took it for. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from policy.decision import operator_denial
from policy.model import OperatorRule, PluginRule, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case of one rule.

    Attributes:
        rule: The rule.
        case: The operator, as the rule's file has it.
        wanted: `allow` or `deny`.
        wrong: What is wrong, or the empty string.
    """

    rule: str
    case: str
    wanted: str
    wrong: str

    def to_wire(self) -> dict[str, str]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}


def try_cases(policy: Policy, *, today: date) -> list[CaseResult]:
    """Try every case of every rule of a policy.

    Args:
        policy: The effective policy.
        today: For rules that expire: cases of one that has fail, so that it is looked at again.
    """
    return [
        *(
            result
            for form in sorted(policy.operators)
            for rule in policy.operators[form].rule
            for result in _of_rule(policy, form, rule, today)
        ),
        *(result for name in sorted(policy.plugins) for result in _of_plugin(policy, policy.plugins[name], today)),
    ]


def _of_plugin(policy: Policy, rule: PluginRule, today: date) -> Iterator[CaseResult]:
    """With the plugin in use, as the format spells it that names operators in full."""
    for wanted, cases in (("allow", rule.allows), ("deny", rule.denies)):
        for text in cases:
            namespace, _, name = text.partition("::")
            denial = operator_denial(policy, rule.formats[-1], namespace, name, today=today, plugins=[rule.name])
            yield _result(rule.id, text, wanted, denial)
    if not set(rule.allows) & set(rule.operators):
        wrong = "none of its cases to allow is an operator that it has"
        yield CaseResult(rule=rule.id, case="", wanted="allow", wrong=wrong)


def _of_rule(policy: Policy, form: str, rule: OperatorRule, today: date) -> Iterator[CaseResult]:
    for wanted, cases in (("allow", rule.allows), ("deny", rule.denies)):
        for text in cases:
            namespace, name = rule.case(text)
            yield _result(rule.id, text, wanted, operator_denial(policy, form, namespace, name, today=today))
    mine = rule.allows if rule.effect == "allow" else rule.denies
    if not any(rule.case(text) == (rule.namespace, name) for text in mine for name in rule.names):
        wrong = f"none of its cases to {rule.effect} is an operator that it names"
        yield CaseResult(rule=rule.id, case="", wanted=rule.effect, wrong=wrong)


def _result(rule: str, case: str, wanted: str, denial: tuple[str, str, str] | None) -> CaseResult:
    wrong = ""
    if wanted == "allow" and denial is not None:
        wrong = f"denied by {denial[0]}: {denial[1]}"
    elif wanted == "deny" and denial is None:
        wrong = "a rule allows it"
    return CaseResult(rule=rule, case=case, wanted=wanted, wrong=wrong)
