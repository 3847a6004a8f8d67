import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.tree import NO_DRAFT, DraftTree

CHAINS = st.lists(
    st.lists(st.integers(0, 3), min_size=7, max_size=7).map(tuple), min_size=1, max_size=6
)


def test_shared_beginnings_are_one_node():
    tree = DraftTree.from_chains([(1, 2, 3), (1, 2, 4), (5, 2, 3)])
    assert tree.tokens == (1, 5, 2, 2, 3, 4, 3)
    assert tree.parents == (-1, -1, 0, 1, 2, 2, 3)
    assert tree.levels == (0, 0, 1, 1, 2, 2, 2)


@given(CHAINS)
def test_chains_come_back(chains):
    assert set(DraftTree.from_chains(chains).chains()) == set(chains)


@given(CHAINS)
def test_crossing_adds_groups_of_others_and_keeps_each_gripper_with_its_position(chains):
    crossed = set(DraftTree.crossed(chains).chains())
    assert crossed >= set(chains)
    assert {chain[:3] for chain in crossed} == {chain[:3] for chain in chains}
    assert {chain[3:6] for chain in crossed} == {chain[3:6] for chain in chains}
    with_position = {(chain[:3], chain[6]) for chain in chains}
    assert all((chain[:3], chain[6]) in with_position for chain in crossed)


@given(CHAINS, st.integers(0, 7))
def test_tails_forget_what_stood_above(chains, level):
    tails = {chain[level:] for chain in chains} - {()}
    assert set(DraftTree.from_chains(chains).tails(level).chains()) == tails


@given(CHAINS, st.integers(0, 7))
def test_above_keeps_whole_levels(chains, level):
    tree = DraftTree.from_chains(chains).above(level)
    assert set(tree.chains()) == {chain[:level] for chain in chains} - {()}


@given(CHAINS)
def test_a_node_sees_its_path_and_nothing_else(chains):
    tree = DraftTree.from_chains(chains)
    mask = tree.mask(torch.device("cpu"))
    for node in range(len(tree)):
        path, at = set(), node
        while at >= 0:
            path.add(at)
            at = tree.parents[at]
        assert set(mask[node].nonzero().flatten().tolist()) == path


def test_no_draft_is_empty():
    assert len(NO_DRAFT) == 0
    assert NO_DRAFT.chains() == []
    assert NO_DRAFT.tails(2) == NO_DRAFT


@pytest.mark.parametrize(
    ("tokens", "parents", "message"),
    [
        ((1,), (), "1 tokens, 0 parents"),
        ((1, 2), (1, -1), "before its children"),
        ((1, 2, 3), (-1, 0, -1), "level by level"),
    ],
)
def test_disorder_is_an_error(tokens, parents, message):
    with pytest.raises(ValueError, match=message):
        DraftTree(tokens, parents)
