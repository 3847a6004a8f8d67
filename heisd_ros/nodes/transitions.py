"""Lifecycle transitions that log why they failed, and free the memory of what they loaded."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from heisd_ros.control.policy import free_memory
from heisd_ros.errors import HeisdError

N = TypeVar("N", bound=LifecycleNode)


def transition(callback: Callable[[N], None]) -> Callable[..., TransitionCallbackReturn]:
    """Makes a lifecycle callback log its exceptions, which rclpy would swallow."""

    @wraps(callback)
    def reported(self: N, state: LifecycleState) -> TransitionCallbackReturn:
        name = callback.__name__.removeprefix("on_")
        try:
            callback(self)
            return TransitionCallbackReturn.SUCCESS
        except (HeisdError, ValueError, OSError) as error:
            self.get_logger().error(f"{name} failed: {error}")
            outcome = TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(f"{name} failed:\n{traceback.format_exc()}")
            outcome = TransitionCallbackReturn.ERROR
        # Only now that the error is gone can the memory be freed: its traceback held references.
        free_memory()
        return outcome

    return reported
