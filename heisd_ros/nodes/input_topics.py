"""Subscriptions of the VLA node while it is configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from std_msgs.msg import String

from heisd_ros.nodes import qos
from heisd_ros.nodes.guard import GuardedNode

MAX_BYTES = 32_768
"""Size of the largest accepted message of joint states or text, bytes."""


class InputTopics:
    """Creates subscriptions one by one and destroys them together."""

    def __init__(self, node: GuardedNode) -> None:
        self._node = node
        self._subscriptions: list[Subscription] = []

    def listen(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        override_id: str | None = None,
        events: SubscriptionEventCallbacks | None = None,
        refuse: Callable[[str], None] | None = None,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        """Subscribes to a topic.

        Args:
            kind: The type of its messages.
            topic: Name of the topic.
            callback: Handles each message.
            profile: Quality of service.
            override_id: Distinguishes QoS overrides of two subscriptions of the topic.
            events: Callbacks for its events; None: rclpy's defaults.
            refuse: Called with the problem of a message that is too large or malformed; None:
                the size is not checked.
            most_bytes: Size of the largest accepted message, serialized.
        """
        make: Callable[..., Subscription] = self._node.create_subscription
        if refuse is not None:
            make = partial(
                self._node.create_bounded_subscription, most_bytes=most_bytes, refuse=refuse
            )
        self._subscriptions.append(
            make(
                kind,
                topic,
                callback,
                qos_profile=profile,
                event_callbacks=events,
                qos_overriding_options=qos.overrides(override_id),
            )
        )

    def listen_twice(
        self,
        topic: str,
        latched: Callable[[Any], None],
        live: Callable[[Any], None],
        **bounds: Any,
    ) -> None:
        """Subscribes to a text from publishers that latch it and from those that do not.

        Only a latched subscription gets earlier messages, and only a volatile one matches a
        publisher that does not latch; that mismatch is not warned of. The same text may come twice.

        Args:
            topic: Name of the topic.
            latched: Handles latched messages, including earlier ones.
            live: Handles messages from now on.
            **bounds: `refuse` and `most_bytes` of `listen`.
        """
        self.listen(String, topic, latched, qos.latched(), "latched", qos.NO_EVENTS, **bounds)
        self.listen(String, topic, live, qos.reliable(), **bounds)

    def close(self) -> None:
        """Destroys all subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
