"""Which addresses a job may be let through to, and the rules that say so."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from policy.egress import METADATA, PRIVATE, SPECIAL, address_fault
from policy.load import load_policy
from policy.model import EGRESS_RULES_MAX, EgressRule, Profile

RULE: dict[str, Any] = {
    "id": "EGRESS-MIRROR",
    "host": "mirror.example.org",
    "port": 443,
    "reason": "The mirror of the data sets that jobs train on",
    "reviewer": "security-review",
    "reviewed": "2026-11-24",
}


@pytest.mark.parametrize(
    "address",
    [
        *(str(network[0]) for network in (*METADATA, *SPECIAL)),
        *(str(network[-1]) for network in (*METADATA, *SPECIAL)),
        "169.254.169.254",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::ffff:8.8.8.8",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "100::1",
        "4000::1",
    ],
)
def test_no_rule_can_let_a_job_through_to_the_machine_its_cloud_or_nobody(address: str) -> None:
    assert address_fault(address, given=False) is not None
    assert address_fault(address, given=True) is not None
    with pytest.raises(ValidationError):
        EgressRule.model_validate({**RULE, "address": address})


@pytest.mark.parametrize(
    "address",
    [
        *(str(network[0]) for network in PRIVATE),
        *(str(network[-1]) for network in PRIVATE),
        "10.1.2.3",
        "172.17.0.1",
        "192.168.1.1",
    ],
)
def test_a_private_address_must_be_given(address: str) -> None:
    assert address_fault(address, given=False) == "a private address"
    assert address_fault(address, given=True) is None
    EgressRule.model_validate({**RULE, "address": address})


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "223.255.255.255",
        "168.63.129.15",
        "2606:2800:220:1:248:1893:25c8:1946",
        "2000::1",
        "3ffe::1",
    ],
)
def test_a_public_address_is_let_through_to(address: str) -> None:
    assert address_fault(address, given=False) is None


@pytest.mark.parametrize(
    "text", ["", "mirror.example.org", "1.2.3", "010.0.0.1", "0x7f.1", "2130706433", "fe80::1%eth0"]
)
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        address_fault(text, given=True)
    if text:
        with pytest.raises(ValidationError):
            EgressRule.model_validate({**RULE, "address": text})


@pytest.mark.parametrize(
    "change",
    [
        {"host": "localhost"},
        {"host": "127.0.0.1"},
        {"host": "1.2.3.4"},
        {"host": "0x7f.0x1"},
        {"host": "[::1]"},
        {"host": "*.example.org"},
        {"host": ".example.org"},
        {"host": "example.org."},
        {"host": "Example.org"},
        {"host": "exa mple.org"},
        {"host": "example.org\nhttp_access allow all"},
        {"host": "example.org\n"},
        {"host": "a" * 64 + ".org"},
        {"host": ".".join(["a" * 60] * 5)},
        {"host": "-a.org"},
        {"port": 0},
        {"port": 65536},
        {"port": "443-8443"},
        {"id": "egress"},
        {"id": "E\nhttp_access allow all"},
        {"reason": "short"},
        {"addresses": ["1.2.3.4"]},
    ],
)
def test_a_rule_names_one_host_and_one_port(change: dict[str, Any]) -> None:
    EgressRule.model_validate(RULE)
    with pytest.raises(ValidationError):
        EgressRule.model_validate(RULE | change)


def profile(**change: Any) -> Profile:
    return Profile.model_validate(load_policy("standard").profile.model_dump(by_alias=True) | change)


def test_rules_and_network_go_together_and_agree() -> None:
    allowing = profile(network="allowlist", egress=[RULE])
    assert allowing.egress[0].host == "mirror.example.org"
    other = RULE | {"id": "EGRESS-OTHER", "port": 80}
    profile(network="allowlist", egress=[RULE, other])
    for change in (
        {"network": "allowlist"},
        {"egress": [RULE]},
        {"network": "host", "egress": [RULE]},
        {"network": "allowlist", "egress": [RULE, RULE | {"port": 80}]},  # one id twice
        {"network": "allowlist", "egress": [RULE, RULE | {"id": "EGRESS-OTHER"}]},  # one place twice
        {"network": "allowlist", "egress": [RULE, other | {"address": "10.0.0.1"}]},
    ):
        with pytest.raises(ValidationError):
            profile(**change)


def test_the_number_of_rules_has_a_limit() -> None:
    rules = [RULE | {"id": f"EGRESS-N{n}", "port": n + 1} for n in range(EGRESS_RULES_MAX + 1)]
    profile(network="allowlist", egress=rules[:-1])
    with pytest.raises(ValidationError):
        profile(network="allowlist", egress=rules)


def test_the_rule_that_the_readme_shows_is_one() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (shown,) = re.findall(r"^```toml\n(\[\[egress\]\]\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    for text in (shown, shown.replace("# address", "address")):
        (rule,) = tomllib.loads(text)["egress"]
        profile(network="allowlist", egress=[rule])


def test_no_profile_that_is_shipped_has_a_network() -> None:
    for name in ("standard", "onnx-standard", "crun", "gvisor", "cuda"):
        assert load_policy(name).profile.network == "none"
