"""The rules that are shipped, by id: one that is lost, or that came in unseen, is noticed here."""

from policy.load import load_policy

RULES = {
    "onnx": {
        *("ONNX-ARITHMETIC", "ONNX-ACTIVATION", "ONNX-MESSAGE-PASSING", "ONNX-SHAPE", "ONNX-BRANCH"),
        *("ONNX-UNBOUNDED-LOOP", "ONNX-NONDETERMINISTIC", "ONNX-EXTERNAL-CONTEXT"),
    },
    "torchscript": {
        *("TS-TENSOR-MATH", "TS-NEURAL", "TS-MESSAGE-PASSING", "TS-SHAPE", "TS-SCALAR", "TS-LANGUAGE"),
        *("TS-TENSOR-PICKLE", "TS-FILES", "TS-RANDOM", "TS-OUTPUT", "TS-UNBOUNDED-LOOP", "TS-PRINT"),
    },
    "pt2": {
        *("PT2-TENSOR-MATH", "PT2-NEURAL", "PT2-MESSAGE-PASSING", "PT2-SHAPE", "PT2-SIZE-ARITHMETIC"),
        *("PT2-FILES", "PT2-RANDOM"),
    },
}


def test_the_rules_that_are_shipped_are_these() -> None:
    policy = load_policy("standard")
    assert {form: {rule.id for rule in rules.rule} for form, rules in policy.operators.items()} == RULES
    assert policy.plugins == {}
    assert policy.profile.waiver == ()
