import pytest

from heisd_ros.decoding.settings import ModeSettings
from heisd_ros.errors import ModeError


def test_settings_are_read_and_the_rest_has_its_default():
    mode = ModeSettings.from_dict(
        {"propose": "hybrid", "retrieval": {"k": 3}, "skip": {"policy": "random", "rate": 1}}
    )
    assert (mode.retrieval.k, mode.retrieval.payload, mode.skip.rate) == (3, "own", 1.0)
    assert mode.retrieves and mode.drafts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"propose": "guess"}, "propose is 'guess'; accepted: 'none', 'retrieval'"),
        ({"speed": 3}, "unknown key speed; accepted: description, engine"),
        ({"retrieval": {"top": 3}}, "unknown key retrieval.top; accepted: k, draft"),
        ({"retrieval": {"k": 0}}, "retrieval.k is 0; accepted: 1 to 64"),
        ({"retrieval": {"k": 2.5}}, "retrieval.k is 2.5; accepted: a whole number"),
        ({"retrieval": {"k": True}}, "retrieval.k is True; accepted: a whole number"),
        ({"retrieval": 5}, "retrieval is 5; accepted: a mapping"),
        ({"one_pass": "yes"}, "one_pass is 'yes'; accepted: true or false"),
        ({"drafter": {"depth": 7}}, "drafter.depth is 7; accepted: 1 to 6"),
        ({"skip": {"policy": "always"}}, "but propose is 'none'"),
        ({"skip": {"rate": float("nan")}}, "skip.rate is nan; accepted: a finite number"),
        ({"propose": "retrieval", "skip": {"speed": 0.1}}, "propose 'hybrid' alone"),
        ({"propose": "retrieval", "retrieval": {"speed": 0.1, "last": True}}, "'hybrid' alone"),
        ({"propose": "hybrid", "retrieval": {"speed": 0.1}}, "retrieval.last: true"),
        ({"propose": "retrieval", "boundary": {"kind": "predicted"}}, "propose: hybrid"),
        (
            {"propose": "hybrid", "boundary": {"kind": "predicted"}, "one_pass": False},
            "one_pass: true",
        ),
        ({"propose": "hybrid", "skip": {"policy": "predicted"}}, "boundary.kind: predicted"),
        ({"boundary": {"kind": "learnt"}}, "boundary.kind is 'learnt'; accepted: 'paper' or"),
        ({"skip": {"chance": 1.5}}, "skip.chance is 1.5; accepted: 0.0 to 1.0"),
        ({"retrieval": {"speed": -1.0}}, "retrieval.speed is -1.0; accepted: 0.0 to 10.0"),
        (
            {
                "propose": "hybrid",
                "retrieval": {"speed": 0.2, "last": True},
                "skip": {"policy": "calibrated", "speed": 0.1},
            },
            "retrieval.speed is 0.2, .* accepted with it: at most 0.1",
        ),
        (
            {
                "propose": "hybrid",
                "retrieval": {"speed": 0.2, "last": True},
                "skip": {"policy": "random", "speed": 0.3},
            },
            "retrieved from 0 m/s on; accepted with it: at most 0",
        ),
        ({"one_pass": False, "drafter": {"last": True}}, "accepted with it: one_pass: true"),
    ],
)
def test_what_is_not_accepted_is_named(values, message):
    with pytest.raises(ModeError, match=message):
        ModeSettings.from_dict(values)
