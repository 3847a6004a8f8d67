"""The rates at which a mode really skipped, and modes that are held to them."""

from __future__ import annotations

import json

import pytest
from support.evaluations import MODES, made_up_results

from heisd_ros.decoding.modes import load_mode
from heisd_ros.evaluation.skip_rates import SkipRates, at_rates, measured_rates


@pytest.fixture
def results(tmp_path):
    """A results file and its rows."""
    path, made = tmp_path / "eval.json", made_up_results()
    path.write_text(json.dumps({**made.finish(), "episodes": made.episodes}))
    return path, made.episodes


def test_rates_are_those_of_all_steps_of_the_mode(results):
    path, rows = results
    sources = "".join(row["source"] for row in rows if row["mode"] == "heisd")
    rates = measured_rates(path)
    skipped = sources.count("s")
    assert rates.of_steps == pytest.approx(skipped / len(sources))
    assert rates.of_retrieved == pytest.approx(skipped / (skipped + sources.count("r")))
    assert 0.0 < rates.of_steps < rates.of_retrieved < 1.0


def test_rates_of_the_compiled_form_are_those_of_the_mode(results):
    path, rates = results[0], measured_rates(results[0])
    path.write_text(path.read_text().replace('"heisd"', '"heisd_compiled"'))
    assert measured_rates(path) == rates


def test_a_mode_that_did_not_skip_has_no_rate(results):
    assert set(MODES) >= {"ar", "spec_vla"}
    for mode in ("ar", "nowhere"):
        with pytest.raises(ValueError, match="no skipped step"):
            measured_rates(results[0], mode)


def test_modes_that_skip_by_chance_take_the_rate_that_is_theirs():
    rates = SkipRates(0.27, 0.4)
    assert at_rates(load_mode("random_skip"), rates).skip.rate == 0.4
    assert at_rates(load_mode("hold_last"), rates).skip.rate == 0.27
    for name in ("heisd", "ar", "heisd_release"):
        assert at_rates(load_mode(name), rates) == load_mode(name)
    own = at_rates(load_mode("hold_last"), SkipRates(0.1, 0.2))
    assert at_rates(own, rates) == own, "a rate of its own stays"
    assert at_rates(load_mode("hold_last"), None) == load_mode("hold_last")
