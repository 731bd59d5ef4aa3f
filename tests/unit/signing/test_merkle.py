"""RFC 6962 trees: the test vectors of the certificate transparency project, and proofs of every leaf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing import merkle
from signing.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    reader,
    root_from_proof,
    root_hash,
    roots_from_consistency,
)

# Inputs and roots of the reference implementation's merkle_tree_test (github.com/google/certificate-transparency).
INPUTS = [
    bytes.fromhex(h)
    for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("size", ROOTS)
def test_roots_are_those_of_the_reference_implementation(size: int) -> None:
    assert root_hash(reader([leaf_hash(i) for i in INPUTS]), size).hex() == ROOTS[size]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert root_hash(reader([]), 0).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.integers(1, 70), st.data())
def test_every_leaf_has_a_proof_and_only_in_its_place(size: int, data: st.DataObject) -> None:
    tree = [leaf_hash(bytes([i])) for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(reader(tree), index, size)
    assert root_from_proof(tree[index], index=index, size=size, proof=proof) == root_hash(reader(tree), size)
    for wrong in {index - 1, index + 1, size} - {index}:
        try:
            found = root_from_proof(tree[index], index=wrong, size=size, proof=proof)
        except ValueError:
            continue
        assert found != root_hash(reader(tree), size)


def test_a_proof_that_is_too_long_or_too_short_is_refused() -> None:
    tree = [leaf_hash(bytes([i])) for i in range(5)]
    proof = inclusion_proof(reader(tree), 2, 5)
    for wrong in (proof[:-1], [*proof, bytes(32)]):
        with pytest.raises(ValueError, match="too"):
            root_from_proof(tree[2], index=2, size=5, proof=wrong)


@given(st.integers(1, 70), st.data())
def test_a_tree_is_consistent_with_what_it_was_and_with_nothing_else(new: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(new)]
    tree, old = reader(leaves), data.draw(st.integers(1, new))
    roots = root_hash(tree, old), root_hash(tree, new)
    proof = consistency_proof(tree, old, new)
    assert roots_from_consistency(proof, old=old, old_root=roots[0], new=new) == roots
    forked = [*leaves[: old - 1], leaf_hash(b"forked"), *leaves[old:]]
    try:
        found = roots_from_consistency(proof, old=old, old_root=root_hash(reader(forked), old), new=new)
    except ValueError:
        return
    assert found != (root_hash(reader(forked), old), roots[1])


def test_a_consistency_proof_that_is_too_long_or_too_short_is_refused() -> None:
    tree = reader([leaf_hash(bytes([i])) for i in range(11)])
    for old in range(1, 12):
        proof, root = consistency_proof(tree, old, 11), root_hash(tree, old)
        for wrong in (proof[:-1], [*proof, bytes(32)]):
            if wrong != proof:
                with pytest.raises(ValueError, match="too"):
                    roots_from_consistency(wrong, old=old, old_root=root, new=11)
    for old in (0, 12):
        with pytest.raises(ValueError, match="older tree"):
            consistency_proof(tree, old, 11)
        with pytest.raises(ValueError, match="older tree"):
            roots_from_consistency([], old=old, old_root=bytes(32), new=11)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_leaf_that_is_not_in_the_tree_has_no_proof(index: int, size: int) -> None:
    read = merkle.reader([merkle.leaf_hash(b"%d" % i) for i in range(3)])
    with pytest.raises(ValueError, match="outside of the tree"):
        merkle.inclusion_proof(read, index, size)
    with pytest.raises(ValueError, match="outside of the tree"):
        merkle.root_from_proof(b"", index=index, size=size, proof=[])


def test_a_consistency_proof_of_nothing_is_too_short() -> None:
    with pytest.raises(ValueError, match="too short"):
        merkle.roots_from_consistency([], old=3, old_root=b"x" * 32, new=5)
