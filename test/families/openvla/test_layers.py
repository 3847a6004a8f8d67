import pytest
import torch
from support.small_models import random_batch, small_vla

from heisd_ros.families.openvla.layers import deepened, resized, shortened
from heisd_ros.families.openvla.vla import VLA


def _logits(vla: VLA) -> torch.Tensor:
    config = vla.config
    pixels, ids, tokens, proprio = random_batch(config, [3, 5])
    with torch.inference_mode():
        output = vla.model.forward_train(pixels, ids, tokens, proprio, torch.tensor([3, 5]))
    return output.logits


@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_deeper_model_answers_as_before(more):
    vla = small_vla()
    layers = vla.config.language.num_hidden_layers + more
    deeper = deepened(vla, layers)
    assert deeper.config.language.num_hidden_layers == layers
    assert torch.allclose(_logits(deeper), _logits(vla), atol=1e-4)


def test_layers_are_not_taken_away():
    vla = small_vla()
    with pytest.raises(ValueError, match="accepted: at least the model's own 2"):
        deepened(vla, 1)


def test_a_shortened_model_has_the_first_and_the_last_of_the_layers():
    vla = deepened(small_vla(), 4)
    shorter = shortened(vla, 2)
    old, new = (m.model.language_model.model.layers for m in (vla, shorter))
    for kept, layer in zip((old[0], old[3]), new, strict=True):
        for name, weight in kept.state_dict().items():
            assert torch.equal(weight, layer.state_dict()[name])


@pytest.mark.parametrize("layers", [1, 3])
def test_a_model_cannot_be_shortened_to_more_than_it_has_or_to_less_than_two(layers):
    with pytest.raises(ValueError, match="accepted: 2 to the model's own 2"):
        shortened(small_vla(), layers)


def test_a_number_of_layers_says_which_it_is():
    assert resized(deepened(small_vla(), 4), 3).config.language.num_hidden_layers == 3
    assert resized(small_vla(), 3).config.language.num_hidden_layers == 3
