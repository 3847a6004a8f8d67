"""The loss curve is drawn even for the shortest run."""

from __future__ import annotations

import pytest
from PIL import Image

from heisd_ros.training.loss_curve import draw_losses


@pytest.mark.parametrize("text", [0.0, 3.0])
@pytest.mark.parametrize("rows", [1, 250])
def test_draws_a_picture(tmp_path, rows, text):
    path = tmp_path / "losses.png"
    draw_losses([(10 * i, 5.0 / (i + 1), 2.0 / (i + 1), text) for i in range(rows)], path)
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > picture.height > 100
