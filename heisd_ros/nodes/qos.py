"""Quality of service of each kind of topic; all of them allow QoS overrides."""

from __future__ import annotations

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

_POLICIES = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)

NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
"""No event callbacks: for one of two subscriptions to a topic that complement each other."""


def overrides(entity_id: str | None = None) -> QoSOverridingOptions:
    """Returns options that allow QoS overrides by parameters.

    Args:
        entity_id: Distinguishes two subscriptions of a node to the same topic.
    """
    return QoSOverridingOptions(_POLICIES, entity_id=entity_id)


def publisher(node: Node, kind: type, topic: str, profile: QoSProfile | None = None) -> Publisher:
    """Creates a publisher, `reliable` without a profile, with QoS overrides by parameters."""
    return node.create_publisher(
        kind, topic, profile or reliable(), qos_overriding_options=overrides()
    )


def sensor_data(depth: int = 1) -> QoSProfile:
    """Returns a best-effort profile; a reliable publisher matches too.

    Args:
        depth: Messages kept for a slow reader; by default only the newest.
    """
    return QoSProfile(
        depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def reliable(depth: int = 1) -> QoSProfile:
    """Returns a reliable profile, for commands and the simulation's sensor data.

    Args:
        depth: Messages kept for a slow reader; by default only the newest.
    """
    return QoSProfile(
        depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE
    )


def latched() -> QoSProfile:
    """Returns a reliable profile whose last message late subscribers get (transient local)."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
