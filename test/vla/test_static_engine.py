"""Fixed shapes give the same results as any shape; on a GPU they are captured without waits."""

from __future__ import annotations

import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_models import CONFIG, configs, random_batch, small_model

from heisd_ros.decoding.tree import DraftTree
from heisd_ros.families.openvla.config import ACTION_DIMENSIONS
from heisd_ros.families.openvla.network import VLAModel
from heisd_ros.vla.cuda_graphs import rerun
from heisd_ros.vla.engine import PlainEngine, Prompt
from heisd_ros.vla.static_engine import LARGEST_DRAFT, StaticEngine

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ACTIONS = small_model().action_rows
HIDDEN = CONFIG.language.hidden_size


def rehearsed(program):
    """As a capture does: the program runs before anybody has asked for a result."""
    for _ in range(3):
        program()
    return program


class Captures:
    """Counts the programs that are captured."""

    def __init__(self):
        self.count = 0

    def __call__(self, program):
        self.count += 1
        return rehearsed(program)


class Compilations(list):
    """Counts the programs that are compiled, and compiles nothing."""

    def __call__(self, graph, inputs):
        self.append(graph)
        return graph.forward


def prompt_of(columns, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, columns, HIDDEN, generator=generator).to(device, dtype)


tokens = st.integers(ACTIONS.start, ACTIONS.stop - 1)
trees = st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=4).map(DraftTree.from_chains)


@st.composite
def passes(draw):
    """Drafts of a few passes, and which path of each is kept, of 7 tokens in all at most."""
    made, known = [], 0
    for tree in draw(st.lists(trees, min_size=1, max_size=3)):
        path = [draw(st.integers(0, len(tree) - 1))] if len(tree) and draw(st.booleans()) else []
        while path and tree.parents[path[0]] >= 0:
            path.insert(0, tree.parents[path[0]])
        if known + len(path) + 1 > ACTION_DIMENSIONS:
            break
        known += len(path) + 1
        made.append((tree, path))
    return made


def run(engine, prompt, drafts, token=ACTIONS.start + 7):
    """Greedy ids and logits of each pass: the prefill, then one token at a time, with drafts."""
    room = max(len(tree) for tree, _ in drafts)
    said = []
    sequence, answers = engine.start(prompt, drafts[0][0], room)
    for number, (tree, path) in enumerate(drafts):
        if number:
            answers = sequence.extend(token + number, tree)
        said.append((answers.greedy.clone(), answers.logits.clone()))
        if len(tree):
            sequence.keep(path)
    return said, sequence.prompt_hidden


def assert_same(ours, theirs, tolerance=1e-9):
    (ours, our_hidden), (theirs, their_hidden) = ours, theirs
    torch.testing.assert_close(our_hidden, their_hidden, rtol=0, atol=tolerance)
    for (greedy, logits), (expected, expected_logits) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(logits, expected_logits, rtol=0, atol=tolerance)
        assert greedy.tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(configs(), passes(), st.integers(1, 60), st.integers(0, 99))
@torch.inference_mode()
def test_fixed_shapes_say_what_any_shape_says(config, drafts, columns, seed):
    """Whatever the model, the prompt's length, the trees, and what is kept of them."""
    model = small_model(config, seed).double()
    prompt = prompt_of(columns, seed)
    static = StaticEngine(model, capture=rehearsed)
    assert_same(run(static, prompt, drafts), run(PlainEngine(model), prompt, drafts))


@torch.inference_mode()
def test_nothing_of_an_earlier_prompt_is_seen():
    model = small_model().double()
    used, fresh = StaticEngine(model, rehearsed), StaticEngine(model, rehearsed)
    tree = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    run(used, prompt_of(61, 1), [(tree, range(6)), (tree, range(3))])
    drafts = [(tree, [0]), (DraftTree(), [])]
    assert_same(run(used, prompt_of(50, 2), drafts), run(fresh, prompt_of(50, 2), drafts), 0.0)


@torch.inference_mode()
def test_a_token_may_still_be_on_the_device():
    engine = StaticEngine(small_model().double(), rehearsed)
    sequence, _ = engine.start(prompt_of(20))
    known = sequence.extend(ACTIONS.start).logits.clone()
    sequence, _ = engine.start(prompt_of(20))
    on_its_way = sequence.extend(torch.tensor([ACTIONS.start])).logits
    torch.testing.assert_close(known, on_its_way, rtol=0, atol=0)


@torch.inference_mode()
def test_prompts_and_trees_of_a_bucket_share_their_programs():
    captures = Captures()
    engine = StaticEngine(small_model(), captures)
    for seed, columns in enumerate((33, 40, 48)):
        chain = [(ACTIONS.start + seed + i) for i in range(2 + seed)]
        tree = DraftTree.from_chains([chain, chain[1:]])
        run(engine, prompt_of(columns, dtype=torch.float32), [(tree, [0]), (tree, [])])
    assert captures.count == 2 * 2  # drafts of up to 6 and of up to 16, in the prefill and after it


@torch.inference_mode()
def test_what_was_prepared_is_not_captured_in_a_step():
    captures = Captures()
    engine = StaticEngine(small_model(), captures)
    engine.prepare([40, 33, 60], room=6)
    prepared = captures.count
    assert prepared == 2 * 4
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    for columns in (48, 64):
        prompt = prompt_of(columns, dtype=torch.float32)
        run(engine, prompt, [(chain, [0]), (chain, []), (DraftTree(), [])])
    assert captures.count == prepared


@pytest.mark.parametrize(("columns", "drafted"), [(113, 1), (20, LARGEST_DRAFT + 1)])
@torch.inference_mode()
def test_what_fits_no_bucket_is_run_as_it_is(columns, drafted):
    config = dataclasses.replace(
        CONFIG, language=dataclasses.replace(CONFIG.language, max_position_embeddings=512)
    )
    model = small_model(config).double()
    chains = [[ACTIONS.start + i] for i in range(drafted)]
    drafts = [(DraftTree.from_chains(chains), [0]), (DraftTree(), [])]
    captures = Captures()
    static = StaticEngine(model, captures)
    prompt = prompt_of(columns)
    assert_same(run(static, prompt, drafts), run(PlainEngine(model), prompt, drafts))
    assert captures.count == 0


@torch.inference_mode()
def step(engine, pixels, ids, proprio):
    """A whole plain step: 7 ids, unread."""
    model = engine.model
    features = engine.stage(model.vision_features, pixels)
    prompt = model.embed(ids, engine.stage(model.project, features), proprio)
    sequence, answers = engine.start(prompt)
    chosen = [answers.greedy]
    for _ in range(6):
        chosen.append(sequence.extend(chosen[-1]).greedy)
    return torch.cat(chosen)


@torch.inference_mode()
def test_a_step_never_reads_from_the_device():
    """On the meta device there is nothing to be read: whoever asks gets an error."""
    with torch.device("meta"):
        model = VLAModel(CONFIG).requires_grad_(False)
    pixels, ids, _, proprio = (t.to("meta") for t in random_batch(CONFIG, [5]))
    chosen = step(StaticEngine(model, rehearsed), pixels, ids, proprio)
    assert chosen.shape == (7,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        chosen.tolist()


@pytest.mark.parametrize("capture", [rerun, rehearsed])
def test_a_step_is_that_of_any_shape(capture):
    model = small_model().double()
    pixels, ids, _, proprio = random_batch(CONFIG, [5])
    batch = pixels.double(), ids, proprio.double()
    expected = step(PlainEngine(model), *batch)
    engine = StaticEngine(model, capture)
    for _ in range(2):
        torch.testing.assert_close(step(engine, *batch), expected)


@torch.inference_mode()
def test_compiled_passes_say_the_same():
    """Traced without a break, whatever then generates the code."""
    model = small_model().double()
    compiled = StaticEngine(model, rerun, compiler="aot_eager")
    tree = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 3)])
    drafts = [(tree, [0]), (tree, [0, 1]), (DraftTree(), [])]
    prompt = prompt_of(30)
    assert_same(run(compiled, prompt, drafts), run(PlainEngine(model), prompt, drafts))


@torch.inference_mode()
def test_more_programs_are_compiled_than_pytorch_keeps_of_one_function():
    model, compiled = small_model(), Compilations()

    engine = StaticEngine(model, rerun, compiler=compiled)
    engine.prepare([16, 32, 48], room=12)
    assert len(compiled) == 2 * 9  # nine of each kind, where PyTorch keeps eight


def test_another_number_of_threads_compiles_nothing_again():
    """The thread that decodes is not the one that compiled; some libraries set its number."""
    model, compiled, threads = small_model(), Compilations(), torch.get_num_threads()

    engine = StaticEngine(model, rerun, compiler=compiled)
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    drafts = [(chain, [0]), (DraftTree(), [])]
    prompt = prompt_of(20, dtype=torch.float32)

    @torch.inference_mode()
    def decode(count):
        torch.set_num_threads(count)
        return run(engine, prompt, drafts)

    first, before = decode(threads), len(compiled)
    with ThreadPoolExecutor(1) as pool:
        assert_same(pool.submit(decode, threads + 1).result(), first, 1e-5)
    torch.set_num_threads(threads)
    assert before == len(compiled) > 0


@torch.inference_mode()
def test_answers_of_any_length_are_compiled_as_drafts_at_once():
    model, compiled = small_model(), Compilations()

    network = SimpleNamespace(
        language_model=model.language_model,
        prefix_columns=model.prefix_columns,
        answer=SimpleNamespace(max_tokens=20, counted=False),
    )
    engine = StaticEngine(network, rerun, compiler=compiled)
    prompt = prompt_of(10, dtype=torch.float32)
    for size in (1, 20, 3):
        chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + size)])
        run(engine, prompt, [(chain, [0]), (DraftTree(), [])])
        assert len(compiled) == 2 * 4  # drafts of up to 0, 6, 12 and 24, in the prefill and after


@torch.inference_mode()
def test_no_step_waits_for_a_prompt_of_another_length_to_be_compiled():
    model, compiled = small_model(), Compilations()

    engine = StaticEngine(model, rerun, compiler=compiled, prompts=[20])
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    drafts = [(chain, [0]), (DraftTree(), [])]
    for columns in (20, 45, 5):
        prompt = prompt_of(columns, dtype=torch.float32)
        assert_same(run(engine, prompt, drafts), run(PlainEngine(model), prompt, drafts), 1e-5)
        assert len(compiled) == 2 * 2


@torch.inference_mode()
def test_no_step_waits_for_a_kept_reasoning_to_be_compiled():
    """Its length is new at almost every step, whether or not the model lists its prompts."""
    model, compiled = small_model(), Compilations()

    engine, columns = StaticEngine(model, rerun, compiler=compiled), prompt_of(30).float()
    begun = Prompt(columns, begun=(ACTIONS.start,) * 10)
    _, said = engine.start(begun)
    assert not compiled
    _, expected = PlainEngine(model).start(begun)
    torch.testing.assert_close(said.logits, expected.logits)


@torch.inference_mode()
def test_no_program_computes_what_the_model_keeps():
    """The table of rotary angles would be made at every call, and with a compiler's rounding."""
    compiled = Compilations()
    StaticEngine(small_model(), rerun, compiler=compiled).prepare([20], room=6)
    assert compiled
    targets = [str(node.target) for graph in compiled for node in graph.graph.nodes]
    assert not [name for name in targets if "sin" in name or "outer" in name]


@torch.inference_mode()
def test_a_failed_compilation_is_tried_again():
    asked = []

    def compiler(graph, inputs):
        asked.append(graph)
        if len(asked) == 2:
            raise RuntimeError("no space left")
        return graph.forward

    engine = StaticEngine(small_model(), rerun, compiler=compiler)
    for _ in range(2):
        with contextlib.suppress(Exception):
            engine.start(prompt_of(20, dtype=torch.float32), None, 6)
    assert len(asked) == 1 + 4
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    run(engine, prompt_of(20, dtype=torch.float32), [(chain, [0]), (DraftTree(), [])])
    assert len(asked) == 1 + 4


@torch.inference_mode()
def test_expected_prompts_share_the_passes_behind_them():
    model, captures = small_model(), Captures()

    engine = StaticEngine(model, captures, prompts=[20, 40])
    engine.prepare([20, 40], room=6)
    assert captures.count == 3 * 2  # drafts of 0 and 6, in two prefills and after them
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    drafts = [(chain, [0]), (DraftTree(), [])]
    for columns in (20, 40):
        prompt = prompt_of(columns, dtype=torch.float32)
        assert_same(run(engine, prompt, drafts), run(PlainEngine(model), prompt, drafts), 1e-5)
    assert captures.count == 3 * 2


@torch.inference_mode()
def test_the_first_draft_compiles_whatever_follows_for_every_prepared_prompt():
    model, compiled = small_model(), Compilations()

    engine = StaticEngine(model, rerun, compiler=compiled)
    engine.prepare([20, 40])
    engine.start(prompt_of(20, dtype=torch.float32), None, 20)
    before = len(compiled)
    chains = [[ACTIONS.start + i for i in range(size)] for size in (1, 6, 7, 20)]
    for columns in (25, 45):
        drafts = [(DraftTree.from_chains([chain]), [0]) for chain in chains]
        run(
            engine, prompt_of(columns, dtype=torch.float32), [drafts[3], *drafts, (DraftTree(), [])]
        )
    assert before == len(compiled) > 0


@GPU
@torch.inference_mode()
def test_graphs_say_what_any_shape_says_on_a_gpu():
    model = small_model().double().cuda()
    graphs = StaticEngine(model)
    chain = DraftTree.from_chains([range(ACTIONS.start, ACTIONS.start + 6)])
    wide = DraftTree.crossed([[ACTIONS.start + 9 * i + j for j in range(7)] for i in range(4)])
    wide = wide.above(6)
    # In changing order: graphs share memory, and none may spoil another's.
    for seed in (0, 1, 2, 1, 0):
        drafts = [[(chain, [0, 1]), (chain, [])], [(wide, [0]), (DraftTree(), [])]][seed % 2]
        prompt = prompt_of(20 + 15 * seed, seed, device="cuda")
        assert_same(run(graphs, prompt, drafts), run(PlainEngine(model), prompt, drafts), 1e-8)


@GPU
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_step_on_a_gpu_waits_for_nothing(dtype):
    model = small_model().to("cuda", dtype)
    pixels, ids, _, proprio = (t.cuda() for t in random_batch(CONFIG, [5]))
    batch = pixels.to(dtype), ids, proprio.to(dtype)
    engine = StaticEngine(model)
    step(engine, *batch)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        chosen = step(engine, *batch)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    if dtype == torch.float64:
        assert chosen.tolist() == step(PlainEngine(model), *batch).tolist()
    assert chosen.tolist() == step(engine, *batch).tolist()


@GPU
@torch.inference_mode()
def test_compiled_passes_are_captured_on_a_gpu():
    model = small_model().double().cuda()
    compiled = StaticEngine(model, compiler="inductor")
    drafts = [(DraftTree(), [])] * 4
    prompt = prompt_of(30, device="cuda")
    assert_same(run(compiled, prompt, drafts), run(PlainEngine(model), prompt, drafts), 1e-8)
