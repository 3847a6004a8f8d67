import pytest
import torch
from support.small_models import random_batch, small_vla

from heisd_ros.families.openvla.vla import VLA
from heisd_ros.families.openvla.layers import deepened, resized, shortened


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
