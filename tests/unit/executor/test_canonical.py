"""Digests of values."""

import hashlib

import pytest

from executor.canonical import digest_of


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest_of({"b": [1, 2.5], "a": None}) == digest_of({"a": None, "b": [1, 2.5]})
    assert digest_of({}) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": True}, {"b": 1}, [1], {}])
def test_other_values_have_other_digests(other: object) -> None:
    assert digest_of({"a": 1}) != digest_of(other)
