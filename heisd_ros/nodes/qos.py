"""Quality of service of each kind of topic, every one of them open to QoS overrides."""

from __future__ import annotations

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

_POLICIES = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)

NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
"""For one of two subscriptions to a topic, whose mismatches the other one makes good."""


def overrides(entity_id: str | None = None) -> QoSOverridingOptions:
    """Opens a publisher or subscription to QoS overrides by parameters.

    Args:
        entity_id: Tells apart two subscriptions of a node to the same topic.
    """
    return QoSOverridingOptions(_POLICIES, entity_id=entity_id)


def sensor_data(depth: int = 1) -> QoSProfile:
    """Best effort; a reliable publisher matches too.

    Args:
        depth: Messages kept for a reader that is behind, the newest only by default.
    """
    return QoSProfile(
        depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def reliable(depth: int = 1) -> QoSProfile:
    """Delivered: commands and what the simulation measures, the newest only by default.

    Args:
        depth: Messages kept for a reader that is behind.
    """
    return QoSProfile(
        depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
    )


def latched() -> QoSProfile:
    """Delivered, and kept for those who come later."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
