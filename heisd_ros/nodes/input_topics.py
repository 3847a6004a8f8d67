"""What the VLA node listens to while it is configured."""

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
"""Largest message of joint states or words that is looked at."""


class InputTopics:
    """Subscriptions that are made one by one and end together.

    Args:
        node: The node that owns them.
    """

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
        """Hears a topic.

        Args:
            kind: The type of its messages.
            topic: Its name.
            callback: Takes each message.
            profile: Its quality of service.
            override_id: Tells its overrides from those of another subscription of the same topic.
            events: What to do about its events; None: as rclpy does.
            refuse: Takes the problem of a message that is too large or malformed; None: the size
                is not looked at.
            most_bytes: Largest message that is looked at.
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
        """Hears a text from publishers that latch it and from those that do not.

        Only a latched subscription gets what was said before, and only a volatile one matches a
        publisher that does not latch, so that is no mismatch to warn of. Whoever listens takes the
        same text twice.

        Args:
            topic: Its name.
            latched: Takes what a publisher latches, also what it said before.
            live: Takes what is said from now on.
            **bounds: `refuse` and `most_bytes` of `listen`.
        """
        self.listen(String, topic, latched, qos.latched(), "latched", qos.NO_EVENTS, **bounds)
        self.listen(String, topic, live, qos.reliable(), **bounds)

    def close(self) -> None:
        """Ends all subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
