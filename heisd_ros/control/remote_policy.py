"""A policy behind a server, and what a server says of one; see docs/serving.md."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from heisd_ros.control import growth
from heisd_ros.control.policy import Policy, action_space, least_actions, state_sizes
from heisd_ros.kinematics.metric import MetricBounds
from heisd_ros.kinematics.pose import ACTION_SIZE
from heisd_ros.robot.command_parameters import JOINT_INTERFACES
from heisd_ros.robot.parameters import VlaNodeParameters
from heisd_ros.serving.address import Address, own_token
from heisd_ros.serving.layout import Layout, view_keys
from heisd_ros.serving.link import Link
from heisd_ros.serving.remote import RemoteDecoder

LEFT_TO_THE_SERVER = "ar"
"""The mode by default: it says nothing of what the server is to do."""


def open_remote(parameters: VlaNodeParameters) -> Policy:
    """Connects to the server that the parameters name.

    Raises:
        RemoteModelError: It cannot be reached, or serves what cannot be used.
        ValueError: The address is none, or a parameter asks for what this server does not do.
    """
    if growth.wanted(parameters):
        raise ValueError(
            f"parameter 'model.path' is {parameters.model.path!r}; accepted with 'growth.mode' or "
            "'fleet.uri': a model that runs here"
        )
    link = connect(parameters)
    layout, mode = link.layout, parameters.decoding.mode
    try:
        if mode not in (LEFT_TO_THE_SERVER, layout.mode):
            raise ValueError(
                f"parameter 'decoding.mode' is {mode!r}; accepted: {layout.mode!r}, in which "
                f"{link.uri} decodes, or {LEFT_TO_THE_SERVER!r}, which leaves it to the server"
            )
        space = action_space(parameters, link.uri, layout.action_space)
    except ValueError:
        link.close()
        raise
    plain = RemoteDecoder(link, parameters.model.budget_sec, plain=True) if layout.own else None
    return Policy(
        decoder=RemoteDecoder(link, parameters.model.budget_sec),
        folder=Path(link.uri),
        views=tuple(layout.views),
        image_size=layout.image_size,
        proprio_size=layout.proprio_size,
        rate_hz=layout.rate_hz,
        instructions=layout.instructions,
        bounds=layout.bounds,
        plain=plain,
        robot=layout.robot,
        mode=layout.mode or "of the server",
        link=link,
        action_space=space,
        action_size=layout.dimensions,
        horizon=layout.horizon if layout.own else 0,
        least_actions=least_actions(parameters),
    )


def connect(parameters: VlaNodeParameters) -> Link:
    """Connects to the server that the parameters name.

    A server of openpi's says nothing of its model: its actions are those of `model.action_space`,
    its state is `model.state`.

    Raises:
        RemoteModelError: It cannot be reached, or serves what cannot be used.
        ValueError: The address is none, or the token cannot be sent.
    """
    model, joints = parameters.model, len(parameters.robot.joint_names)
    assumed = Layout(
        action_space=model.action_space,
        dimensions=joints + 1 if model.action_space in JOINT_INTERFACES else ACTION_SIZE,
        proprio_size=state_sizes(parameters)[model.state],
    )
    return Link(Address.parse(model.path), own_token(), assumed)


def _told(policy: Policy) -> MetricBounds | None:
    """The bounds that a client is told: with the boundary by which the policy decides."""
    if policy.bounds is None or policy.boundary is None or math.isnan(policy.boundary):
        return policy.bounds
    return replace(policy.bounds, boundary=policy.boundary)


def layout_of(policy: Policy, mode: str, model: str) -> Layout:
    """What a server says of a policy that runs here.

    Args:
        policy: The policy.
        mode: How it decodes.
        model: What tells its model from another.
    """
    return Layout(
        views=view_keys(policy.views),
        image_size=policy.image_size,
        proprio_size=policy.proprio_size,
        rate_hz=policy.rate_hz,
        horizon=policy.horizon or 1,
        instructions=policy.instructions,
        dimensions=policy.action_size,
        action_space=policy.action_space if policy.space_known else "",
        model=model,
        mode=mode,
        robot=policy.robot,
        bounds=_told(policy),
    )
