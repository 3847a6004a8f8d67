"""Callbacks that cannot end the process: what one of them raises goes to the node, by name.

rclpy hands an exception of a callback to whoever spins, which ends the node and leaves the arm with
its last command. So a node of this kind creates nothing that calls back without a guard: what it
overrides here is all that rclpy itself uses, for parameters, lifecycle, actions and the clock too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message

MAX_ITEMS = 256
"""Of a list in a request: rclpy takes 70 us for each name of a parameter, in the executor."""


class GuardedNode(Node):
    """A node whose callbacks are all guarded."""

    def on_fault(self, where: str, error: Exception) -> None:
        """Takes what a callback raised.

        Args:
            where: What was called back, such as ``topic ~/input/image``.
            error: What it raised.
        """
        raise NotImplementedError

    def guarded(
        self,
        where: str,
        callback: Callable[..., Any],
        otherwise: Callable[..., Any] = lambda error, *_: None,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> Callable[..., Any]:
        """Wraps a callback so that it raises nothing.

        Args:
            where: Names it in a fault.
            callback: What to call.
            otherwise: Takes the error and the callback's arguments, and answers in its place.
            on_error: Takes the fault in place of `on_fault`.
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
        """Creates a guarded subscription whose messages are looked at only up to a size.

        Making Python objects of a message of a million names would keep the executor for a second.

        Args:
            kind: Message type.
            topic: Its name.
            callback: Takes a message.
            most_bytes: Largest message, serialized.
            refuse: Takes in words what was wrong with a message that is too large or malformed.
            **kwargs: As rclpy's.
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
        """Takes an action server or client, or the events of a topic, and guards it."""
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
        """Adds a guarded callback; where it fails, the parameters are refused."""
        super().add_on_set_parameters_callback(
            self.guarded("check of parameters", callback, _refused_parameters)
        )

    def add_post_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """Adds a guarded callback; see rclpy."""
        super().add_post_set_parameters_callback(self.guarded("set of parameters", callback))

    def guard_services(self) -> None:
        """Guards the services that rclpy's lifecycle makes past `create_service`."""
        for service in self.services:
            if not hasattr(service.callback, "guarded"):
                service.callback = self._guarded_service(service.srv_name, service.callback)

    def _guarded_service(self, name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Guards a service, whose requests may hold no more than `MAX_ITEMS` of anything.

        What rclpy's own services raise is that a request makes no sense, such as a transition that
        the state does not know: that is refused, and nothing of the node is broken by it.
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
    """Spins once; what fails outside of callbacks, such as taking a message, is a fault too."""
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    except ShutdownException:
        raise
    except Exception as error:
        # rclpy leaves the entity marked as being worked on, and with it its group: nothing of the
        # node would be called again. It offers no way to say that the work is over.
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
    """An answer that says so, where the service has words for it."""
    if hasattr(response, "success"):
        response.success = False
    if hasattr(response, "message"):
        response.message = f"{type(error).__name__}: {error}"
    return response


def _refused_parameters(error: Exception, parameters: Any) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=f"{type(error).__name__}: {error}")
