"""Guards callbacks, so that an exception is reported to the node instead of ending the process.

rclpy raises an exception of a callback in the spinning thread, which ends the node and leaves the
arm with its last command. So everything with a callback is created with a guard: the methods
overridden here are all that rclpy uses, also for parameters, lifecycle, actions and the clock.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message

MAX_ITEMS = 256
"""Longest list in a request: rclpy takes 70 us per parameter name, in the executor."""


class GuardedNode(Node):
    """A node whose callbacks are all guarded."""

    def on_fault(self, where: str, error: Exception) -> None:
        """Handles an exception of a callback; logs it here.

        Args:
            where: The callback, such as ``topic ~/input/image``.
            error: The exception.
        """
        self.get_logger().error(
            f"{where} failed:\n{''.join(traceback.format_exception(error))}",
            throttle_duration_sec=1.0,
        )

    def guarded(
        self,
        where: str,
        callback: Callable[..., Any],
        otherwise: Callable[..., Any] = lambda error, *_: None,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> Callable[..., Any]:
        """Wraps a callback so that it never raises.

        Args:
            where: Name of the callback in a fault.
            callback: The callback.
            otherwise: Gets the error and the callback's arguments, and returns in its place.
            on_error: Handles the fault instead of `on_fault`.
        """
        take = on_error or self.on_fault

        @wraps(callback)
        def call(*args: Any) -> Any:
            try:
                return callback(*args)
            except Exception as error:
                take(where, error)
                return otherwise(error, *args)

        call.guarded = True  # type: ignore[attr-defined]
        return call

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Creates a guarded subscription; see rclpy."""
        call = self.guarded(f"topic {topic}", callback)
        return super().create_subscription(msg_type, topic, call, *args, **kwargs)

    def create_bounded_subscription(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        *,
        most_bytes: int,
        refuse: Callable[[str], None],
        **kwargs: Any,
    ) -> Any:
        """Creates a guarded subscription that refuses messages above a size.

        Deserializing a message of a million names would block the executor for a second.

        Args:
            kind: Message type.
            topic: Name of the topic.
            callback: Handles a message.
            most_bytes: Size of the largest accepted message, serialized.
            refuse: Called with the problem of a message that is too large or malformed.
            **kwargs: Passed on to rclpy.
        """

        def take(data: bytes) -> None:
            if len(data) > most_bytes:
                refuse(f"message has {len(data)} bytes; accepted: up to {most_bytes}")
                return
            try:
                message = deserialize_message(data, kind)
            except Exception as error:  # rclpy has no common class of those
                refuse(f"message of {len(data)} bytes is malformed: {error}")
                return
            callback(message)

        return self.create_subscription(kind, topic, take, raw=True, **kwargs)

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **kwargs: Any
    ) -> Any:
        """Creates a guarded service; see rclpy."""
        call = self._guarded_service(srv_name, callback)
        return super().create_service(srv_type, srv_name, call, **kwargs)

    def create_timer(
        self, timer_period_sec: float, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Creates a guarded timer; see rclpy."""
        call = self.guarded(f"timer of {timer_period_sec:g} s", callback)
        return super().create_timer(timer_period_sec, call, *args, **kwargs)

    def create_guard_condition(
        self, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Creates a guarded guard condition; see rclpy."""
        call = self.guarded(f"guard condition of {callback!r}", callback)
        return super().create_guard_condition(call, *args, **kwargs)

    def add_waitable(self, waitable: Any) -> None:
        """Adds an action server or client, or the events of a topic, and guards it."""
        where, execute = f"{type(waitable).__name__}", waitable.execute

        async def call(data: Any) -> None:
            try:
                await execute(data)
            except Exception as error:
                self.on_fault(where, error)

        call.guarded = True  # type: ignore[attr-defined]
        waitable.execute = call
        super().add_waitable(waitable)

    def add_on_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """Adds a guarded callback; if it raises, the parameters are refused."""
        super().add_on_set_parameters_callback(
            self.guarded("check of parameters", callback, _refused_parameters)
        )

    def add_post_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """Adds a guarded callback; see rclpy."""
        super().add_post_set_parameters_callback(self.guarded("set of parameters", callback))

    def guard_services(self) -> None:
        """Guards the services that rclpy's lifecycle creates without `create_service`."""
        for service in self.services:
            if not hasattr(service.callback, "guarded"):
                service.callback = self._guarded_service(service.srv_name, service.callback)

    def _guarded_service(self, name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Guards a service, and refuses requests with a list longer than `MAX_ITEMS`.

        rclpy's own services raise on invalid requests, such as a transition unknown in the current
        state: that is refused and logged, and is not a fault of the node.
        """

        @wraps(callback)
        def bounded(request: Any, response: Any) -> Any:
            for field in request.get_fields_and_field_types():
                value = getattr(request, field)
                counted = hasattr(value, "__len__") and not isinstance(value, str)
                if counted and len(value) > MAX_ITEMS:
                    raise ValueError(f"{field} has {len(value)} items; accepted: {MAX_ITEMS}")
            return callback(request, response)

        where, own = f"service {name}", not callback.__module__.startswith("rclpy.")
        return self.guarded(where, bounded, _refusal, None if own else self._log_refusal)

    def _log_refusal(self, where: str, error: Exception) -> None:
        self.get_logger().error(f"{where} refused a request: {error}", throttle_duration_sec=1.0)


def spin_once(node: GuardedNode, executor: SingleThreadedExecutor, timeout_sec: float) -> None:
    """Spins once; an exception outside of callbacks, such as taking a message, is a fault too."""
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    except ShutdownException:
        raise
    except Exception as error:
        # rclpy leaves the entity and its callback group marked as busy, so that nothing of the node
        # would be called again, and offers no way to reset the marks.
        calling: tuple[Any, ...] = (
            *node.subscriptions,
            *node.services,
            *node.clients,
            *node.timers,
            *node.guards,
            *node.waitables,
        )
        for entity in calling:
            entity._executor_event = False
            entity.callback_group._active_entity = None
        node.on_fault("executor", error)


def _refusal(error: Exception, request: Any, response: Any) -> Any:
    """Returns a response with the error, as far as the service has fields for it."""
    if hasattr(response, "success"):
        response.success = False
    if hasattr(response, "message"):
        response.message = f"{type(error).__name__}: {error}"
    return response


def _refused_parameters(error: Exception, parameters: Any) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=f"{type(error).__name__}: {error}")
