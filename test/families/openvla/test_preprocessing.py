from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.small_models import CONFIG, INSTRUCTIONS, TOWER, random_images, small_tokenizer

from heisd_ros.errors import ImageError, UnknownInstructionError
from heisd_ros.families.openvla.preprocessing import ImagePreprocessor, PromptTokenizer
from heisd_ros.families.openvla.tokenizer_training import train_tokenizer

IMAGES = ImagePreprocessor(CONFIG)


def test_one_normalisation_per_tower():
    second = dataclasses.replace(TOWER, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    images = ImagePreprocessor(dataclasses.replace(CONFIG, towers=(TOWER, second)))
    grey = tuple(np.full((32, 32, 3), 255, np.uint8) for _ in CONFIG.views)
    pixels = images(grey)
    assert pixels.shape == (1, 2, 6, 32, 32) and pixels.dtype == torch.float32
    expected = torch.tensor([1.0, 1.0, 1.0, 1.8, 3.2, 0.7])
    torch.testing.assert_close(pixels[0, 1, :, 5, 9], expected)


def test_views_and_channels_keep_their_places():
    images = tuple(np.zeros((32, 32, 3), np.uint8) for _ in CONFIG.views)
    images[1][3, 7, 2] = 255
    bright = (IMAGES(images) > 0).nonzero().tolist()
    assert bright == [[0, 1, 2, 3, 7], [0, 1, 5, 3, 7]]


def test_a_batch_for_training_is_normalised_like_one_observation():
    views = [random_images(seed=seed) for seed in range(3)]
    batch = torch.from_numpy(np.stack([np.stack(images) for images in views]))
    together = IMAGES.normalise(batch)
    for row, images in zip(together, views, strict=True):
        torch.testing.assert_close(row, IMAGES(images)[0], rtol=0, atol=0)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 20), (1, 1)])
def test_any_size_is_resized(size):
    assert IMAGES.resize(np.zeros((*size, 3), np.uint8)).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image is NoneType; a uint8 array"),
        (np.zeros((32, 32, 3), np.float32), "image is float32; a uint8 array"),
        (np.zeros((32, 32), np.uint8), r"shape \(32, 32\)"),
        (np.zeros((32, 32, 4), np.uint8), r"shape \(32, 32, 4\)"),
        (np.zeros((0, 32, 3), np.uint8), r"shape \(0, 32, 3\)"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ImageError, match=message):
        IMAGES((random_images()[0], image))


def test_every_view_needs_an_image():
    with pytest.raises(ImageError, match="1 images; 2 are needed, one per view: agentview, wrist"):
        IMAGES(random_images()[:1])


def test_known_instructions_are_recognised_in_any_case_and_spacing():
    prompts = PromptTokenizer(CONFIG, small_tokenizer())
    for spelt in ("  Pick up  THE bowl ", "Pick up the bowl."):
        assert prompts.encode(spelt) == prompts.encode(INSTRUCTIONS[0])
    assert prompts.encode(INSTRUCTIONS[0])[0] == 1


def test_known_instructions_that_differ_in_punctuation_stay_two():
    config = dataclasses.replace(CONFIG, instructions=("pick up", "pick up."))
    tokenizer = train_tokenizer(config.instructions, config.real_vocab_size, prompt=config.prompt)
    prompts = PromptTokenizer(config, tokenizer)
    assert prompts.encode("pick up") != prompts.encode("pick up.")


def test_an_unknown_instruction_is_named_with_its_neighbours():
    prompts = PromptTokenizer(CONFIG, small_tokenizer())
    with pytest.raises(UnknownInstructionError) as error:
        prompts.encode("pick up the ball")
    assert "'pick up the ball'; closest of 2 known: 'pick up the bowl'" in str(error.value)


def test_a_model_without_a_list_takes_any_instruction():
    config = dataclasses.replace(CONFIG, instructions=None)
    assert PromptTokenizer(config, small_tokenizer()).encode("dance")[0] == 1


def test_the_suffix_is_appended_unless_it_is_there():
    tokenizer = small_tokenizer()
    bare = dataclasses.replace(CONFIG, instructions=None)
    ids = PromptTokenizer(bare, tokenizer).encode("open")
    appended = dataclasses.replace(bare, prompt_suffix=(7,))
    present = dataclasses.replace(bare, prompt_suffix=(ids[-1],))
    assert PromptTokenizer(appended, tokenizer).encode("open") == [*ids, 7]
    assert PromptTokenizer(present, tokenizer).encode("open") == ids
