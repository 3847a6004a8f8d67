import pytest
from hypothesis import given
from hypothesis import strategies as st

from heisd_ros.decoding.acceptance import (
    GROUP_BIAS,
    GROUP_TOKEN_BIAS,
    TOKEN_BIAS,
    accept,
    within_tolerance,
)
from heisd_ros.decoding.tree import DraftTree
from heisd_ros.families.ecot.codec import EcotAnswer
from heisd_ros.families.openvla.codec import OpenVLAAnswer

ANSWER = OpenVLAAnswer(356)
NEAR = st.integers(200, 240)
CHAIN = st.lists(NEAR, min_size=7, max_size=7).map(tuple)
RULES = ("exact", "token_relaxed", "sequence_relaxed")


def accepted(rule, tree, greedy, position=0):
    return accept(rule, tree, greedy, (0,) * position, ANSWER)


@st.composite
def judged_trees(draw):
    """A tree, and the model's answer after what is certain and after each node."""
    tree = DraftTree.from_chains(draw(st.lists(CHAIN, min_size=1, max_size=5)))
    rows = 1 + len(tree.above(6))
    return tree, draw(st.lists(NEAR, min_size=rows, max_size=rows))


def biases(tree, greedy, path):
    parents = (-1, *path)[: len(path)]
    return [
        abs(tree.tokens[node] - greedy[parent + 1])
        for node, parent in zip(path, parents, strict=True)
    ]


@given(judged_trees(), st.sampled_from(RULES))
def test_an_accepted_path_leads_down_from_a_root(judged, rule):
    tree, greedy = judged
    path = accepted(rule, tree, greedy)
    assert [tree.parents[node] for node in path] == [-1, *path][: len(path)]


@given(judged_trees())
def test_exact_accepts_what_the_model_says_and_as_much_as_there_is(judged):
    tree, greedy = judged
    path = accepted("exact", tree, greedy)
    assert biases(tree, greedy, path) == [0] * len(path)
    last = path[-1] if path else -1
    following = [tree.tokens[node] for node in tree.children.get(last, ())]
    assert len(path) == 7 or greedy[last + 1] not in following


@given(judged_trees())
def test_token_relaxed_keeps_its_bound(judged):
    tree, greedy = judged
    found = biases(tree, greedy, accepted("token_relaxed", tree, greedy))
    assert max(found[:6], default=0) <= TOKEN_BIAS
    assert found[6:] in ([], [0])


@given(judged_trees())
def test_sequence_relaxed_keeps_its_bounds(judged):
    tree, greedy = judged
    found = biases(tree, greedy, accepted("sequence_relaxed", tree, greedy))
    for group in (found[:3], found[3:6]):
        assert max(group, default=0) <= GROUP_TOKEN_BIAS
        assert sum(group) <= GROUP_BIAS
        # A group that is not whole stands only as far as it is the model's own.
        assert len(group) == 3 or sum(group) == 0
    assert found[6:] in ([], [0])


@given(judged_trees())
def test_no_longer_path_would_have_passed(judged):
    """Against trying every path of the tree."""
    tree, greedy = judged
    paths = [()]
    for path in paths:
        paths += [(*path, node) for node in tree.children.get(path[-1] if path else -1, ())]
    lengths = []
    for path in paths:
        found = biases(tree, greedy, path)
        groups = (found[:3], found[3:6])
        holds = all(max(g, default=0) <= GROUP_TOKEN_BIAS and sum(g) <= GROUP_BIAS for g in groups)
        whole = all(len(g) == 3 or sum(g) == 0 for g in groups)
        if holds and whole and sum(found[6:]) == 0:
            lengths.append(len(path))
    assert len(accepted("sequence_relaxed", tree, greedy)) == max(lengths)


def test_each_chain_is_judged_on_its_own_logits():
    tree = DraftTree.from_chains([(200, 210, 220), (205, 240, 230)])
    # After 200 the model would say 239, after 205 it would say 240: only the second chain goes on.
    greedy = {-1: 203, 0: 260, 1: 240, 2: 200, 3: 230, 4: 200, 5: 200}
    path = accepted("sequence_relaxed", tree, [greedy[i] for i in range(-1, len(tree))])
    assert [tree.tokens[node] for node in path] == [205, 240, 230]


@pytest.mark.parametrize("rule", RULES)
def test_a_gripper_is_never_relaxed(rule):
    assert accepted(rule, DraftTree((201,), (-1,)), [200], position=6) == ()
    assert accepted(rule, DraftTree((200,), (-1,)), [200], position=6) == (0,)


@pytest.mark.parametrize("rule", RULES)
def test_a_token_that_is_no_action_is_near_to_nothing(rule):
    assert accepted(rule, DraftTree((100,), (-1,)), [99]) == ()


@given(CHAIN, st.lists(st.integers(-20, 20), min_size=7, max_size=7))
def test_tolerance_is_that_of_sequence_relaxed(chain, offsets):
    verified = [token + offset for token, offset in zip(chain, offsets, strict=True)]
    tree = DraftTree.from_chains([chain])
    whole = len(accepted("sequence_relaxed", tree, verified)) == 7
    assert within_tolerance(chain, verified, ANSWER) == within_tolerance(chain, verified) == whole


@pytest.mark.parametrize(("rule", "most"), [("token_relaxed", 9), ("sequence_relaxed", 15)])
def test_the_bounds_of_a_token_are_those_of_the_papers(rule, most):
    greedy = (220,) * 7
    for off, passes in ((most, True), (most + 1, False)):
        for place in range(6):
            chain = [220] * 7
            chain[place] += off
            path = accepted(rule, DraftTree.from_chains([chain]), greedy)
            assert (len(path) == 7) == passes


def test_the_bound_of_a_group_is_that_of_the_paper():
    for offsets, passes in (((15, 15, 0), True), ((15, 15, 1), False)):
        chain = (*(220 + off for off in offsets), 220, 220, 220, 220)
        path = accepted("sequence_relaxed", DraftTree.from_chains([chain]), (220,) * 7)
        assert (len(path) == 7) == passes
        assert within_tolerance(chain, (220,) * 7) == passes


SPOKEN = EcotAnswer(356, 64, frozenset({2}))
WORDS = st.lists(st.integers(3, 99), max_size=8).map(tuple)
NUDGES = st.lists(st.integers(-40, 40), min_size=7, max_size=7)


@given(st.sampled_from(RULES), WORDS, CHAIN, NUDGES)
def test_the_action_behind_words_is_judged_as_one_alone(rule, words, action, nudges):
    """One action drafted behind any text passes as far as it would without the text."""
    drafted = tuple(a + n for a, n in zip(action, nudges, strict=True))
    alone = accept(rule, DraftTree.from_chains([drafted]), action, (), ANSWER)
    tree = DraftTree.from_chains([(*drafted, 2)])
    behind = accept(rule, tree, (*action, 2), words, SPOKEN)
    # Behind the last of seven ids stands the end, which is text.
    assert len(behind) == len(alone) + (len(alone) == 7)
    within = accept(
        rule, DraftTree.from_chains([(*words, *drafted, 2)]), (*words, *action, 2), (), SPOKEN
    )
    assert len(within) == len(words) + len(behind)


@given(st.sampled_from(RULES), WORDS, st.data())
def test_words_are_never_relaxed(rule, words, data):
    place = data.draw(st.integers(0, len(words)))
    other = (*words[:place], data.draw(st.integers(3, 99)))
    differs = words[place : place + 1] != other[-1:]
    taken = accept(rule, DraftTree.from_chains([other]), (*words, 250), (), SPOKEN)
    assert len(taken) == place + (not differs)


def test_an_action_where_words_should_be_and_the_end_within_an_action_are_rejected():
    for rule in RULES:
        assert accept(rule, DraftTree.from_chains([(200,)]), (50,), (9,), SPOKEN) == ()
        assert accept(rule, DraftTree.from_chains([(2,)]), (200,), (9, 201), SPOKEN) == ()
        assert accept(rule, DraftTree.from_chains([(200,)]), (2,), (9, 201), SPOKEN) == ()
        eighth = (9, *range(200, 207))
        assert accept(rule, DraftTree.from_chains([(207,)]), (208,), eighth, SPOKEN) == ()


def test_the_tolerance_of_an_answer_with_words():
    own = (9, 8, 7, *(220,) * 7, 2)
    near = (9, 8, 7, 230, 225, 225, *(220,) * 4, 2)
    assert within_tolerance(near, own, SPOKEN)
    assert not within_tolerance((*near[:4], 250, *near[5:]), own, SPOKEN)
    assert not within_tolerance((9, 8, 6, *own[3:]), own, SPOKEN)
    assert not within_tolerance((*own[:9], 221, 2), own, SPOKEN)
    assert not within_tolerance(own[1:], own, SPOKEN)
