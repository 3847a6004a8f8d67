"""Decides whether a person has the arm, and whether what the person asks may move it. No ROS.

A device (joystick, teleoperation node) moves the arm only after it was seen released: at
activation, after silence, after a fault and after any hold it has to be let go first. A person who
lets go keeps the arm, held, until it is given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heisd_ros.control.holds import Hold, HoldReason
from heisd_ros.control.inputs import NANOSECONDS, InputHealth, stamp_ns
from heisd_ros.control.joystick import Joystick, TwistReader, Wish
from heisd_ros.control.stamps import StampAges
from heisd_ros.data.marks import Outcome
from heisd_ros.errors import TeleopError
from heisd_ros.robot.parameters import VlaNodeParameters


class Device:
    """One input by which a person commands.

    Args:
        name: Its topic.
        reader: Maps its messages to wishes.
        silence_releases: Whether silence is how it is let go; of a joystick it is a fault.
        silence_sec: Age of a message, s, from which it counts as let go.

    Attributes:
        health: Rate, age and faults of its messages.
        wish: Of the newest good message; None before one, and after a bad one.
        ready: Whether it was seen released, so that it may move the arm.
    """

    def __init__(
        self,
        name: str,
        reader: Joystick | TwistReader,
        silence_sec: float,
        silence_releases: bool = False,
    ) -> None:
        self.name, self.reader, self.silence_sec = name, reader, silence_sec
        self.health = InputHealth(name)
        self.wish: Wish | None = None
        self.ready = False
        self.stamp = -1
        self._silence_releases = silence_releases
        self._until = self._fault_until = 0  # steady time, ns

    def accept(self, wish: Wish, now: int, until: int, recovery_sec: float) -> None:
        """Takes a good message, which counts until a steady time, ns."""
        if self.health.received is not None and now > self._until:
            self.ready = self._silence_releases
        if not wish.pressed:
            self.ready = True
        self.health.accept(now, recovery_sec)
        self.wish, self._until = wish, until

    def reject(self, fault: str, now: int, until: int) -> None:
        """Takes a bad message, whose fault counts until a steady time, ns."""
        self.health.reject(fault, now)
        self.wish, self.ready, self._fault_until = None, False, until

    def pressed(self, now: int) -> bool:
        """Returns whether the person wants to command with it now."""
        return self.wish is not None and self.wish.pressed and now <= self._until

    def cut_off(self, now: int) -> bool:
        """Returns whether it went silent while the person commanded with it."""
        return self.wish is not None and self.wish.pressed and now > self._until

    def age_sec(self, now: int) -> float:
        """Returns the age of its newest message, s, from its stamp on."""
        return self.silence_sec + (now - self._until) / NANOSECONDS

    def fault(self, now: int) -> str:
        """Returns what is wrong with its messages now; empty if nothing is."""
        return self.health.fault or "" if now <= self._fault_until else ""


class Takeover:
    """Takes the messages of a person's devices, and knows who has the arm; `now` is steady, ns.

    Args:
        parameters: The node's settings.
        on_change: Called when the arm was taken over or given back.
        on_outcome: Called when a button that reports an episode's outcome was pressed.
        rivals: Returns the problem of several publishers on one of the topics; empty: none.

    Attributes:
        taken: Whether a person has the arm.
        count: How often it was taken over.
        devices: The inputs in use.
    """

    def __init__(
        self,
        parameters: VlaNodeParameters,
        on_change: Callable[[str], None] = lambda how: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        rivals: Callable[[], str] = lambda: "",
    ) -> None:
        self.taken, self.count = False, 0
        self._parameters = parameters
        self._on_change, self._on_outcome, self._rivals = on_change, on_outcome, rivals
        teleop, robot = parameters.teleop, parameters.robot
        self._joystick = Joystick(teleop)
        self._reader = TwistReader(teleop, robot.base_frame, robot.tip_frame)
        self.joy = Device(teleop.joy_topic, self._joystick, teleop.silence_sec)
        self.twist = Device(teleop.twist_topic, self._reader, teleop.timeout_sec, True)
        self.devices = [device for device in (self.joy, self.twist) if device.name]
        self._stamps = StampAges([device.name for device in self.devices])

    def set_parameters(self, parameters: VlaNodeParameters) -> None:
        """Updates the live parameters."""
        self._parameters = parameters
        self._joystick.settings = self._reader.settings = parameters.teleop
        self.joy.silence_sec = parameters.teleop.silence_sec
        self.twist.silence_sec = parameters.teleop.timeout_sec

    def on_joy(self, message: Any, now: int, clock: int) -> None:
        """Takes a sensor_msgs/Joy.

        Args:
            message: The message.
            now: Steady time, ns.
            clock: Time of the node's clock, ns; 0: unknown.
        """
        commanded = self.joy.ready and self.joy.pressed(now)
        if not self._receive(self.joy, message, now, clock):
            return
        clicked = self._joystick.clicked(message)
        if not self.joy.pressed(now):
            let_go = commanded and self._parameters.teleop.on_release == "policy"
            # Of two joysticks one may be released while the other one is held.
            if ("return" in clicked or let_go) and not self._rivals():
                self.give_back(self.joy.name, now)
        reported = [outcome for outcome in Outcome if outcome.value in clicked]
        # Several at once say nothing, and of two joysticks one would press again and again.
        if len(reported) == 1 and not self._rivals():
            self._on_outcome(reported[0])

    def on_twist(self, message: Any, now: int, clock: int) -> None:
        """Takes a geometry_msgs/TwistStamped; arguments as in `on_joy`."""
        self._receive(self.twist, message, now, clock)

    def refuse(self, device: Device, fault: str, now: int) -> None:
        """Takes a message that could not be read at all."""
        device.reject(fault, now, now + self._recovery_ns)

    def take(self, how: str) -> None:
        """Gives the arm to the person.

        Args:
            how: Name of the device or service, for the log.
        """
        if not self.taken:
            self.taken, self.count = True, self.count + 1
            self._on_change(how)

    def give_back(self, how: str, now: int) -> str:
        """Gives the arm back to the policy.

        Args:
            how: Name of the device or service, for the log.
            now: Steady time, ns.

        Returns:
            Why not; empty if the policy has the arm.
        """
        for device in self.devices:
            if device.pressed(now):
                return f"{device.name} still commands the arm; let it go first"
        if self.taken:
            self.taken = False
            self._on_change(how)
        return ""

    def disarm(self) -> None:
        """Makes every device wait until it is released."""
        for device in self.devices:
            device.ready = False

    def problem(self, now: int) -> Hold | None:
        """Returns why the person does not move the arm now; None if the person does."""
        hold = self._fault(now)
        if hold is not None:
            self.disarm()
            return hold
        pressed = [device for device in self.devices if device.pressed(now)]
        if not pressed:
            return self._silence(now) or Hold(
                HoldReason.TAKEOVER,
                "a person has the arm and has let go; teleop.return_button or ~/takeover gives it "
                "back",
            )
        if not pressed[0].ready:
            return Hold(HoldReason.TAKEOVER, f"{pressed[0].name} has to be released first")
        return None

    def wish(self, now: int) -> Wish | None:
        """Returns what the person asks for; None if there is a problem."""
        if not self.taken or self.problem(now) is not None:
            return None
        return next(device.wish for device in self.devices if device.pressed(now))

    def _fault(self, now: int) -> Hold | None:
        for device in self.devices:
            fault = device.fault(now)
            if fault:
                return Hold(HoldReason.BAD_TELEOP, f"{device.name}: {fault}")
        pressed = [device.name for device in self.devices if device.pressed(now)]
        rivals = self._rivals()
        if not rivals and len(pressed) > 1:
            rivals = f"{' and '.join(pressed)} command at once; accepted: one at a time"
        if rivals:
            return Hold(HoldReason.RIVAL_TELEOP, rivals)
        return None

    def _silence(self, now: int) -> Hold | None:
        for device in self.devices:
            if device.cut_off(now):
                device.ready = False
                return Hold(
                    HoldReason.STALE_TELEOP,
                    f"{device.name}: nothing for {device.age_sec(now):.2f} s; accepted: up "
                    f"to {device.silence_sec:g} s (teleop.timeout_sec, teleop.joy_rate_hz)",
                )
        return None

    @property
    def _recovery_ns(self) -> int:
        seconds = max(self._parameters.input.recovery_sec, self._parameters.teleop.timeout_sec)
        return int(seconds * NANOSECONDS)

    def _receive(self, device: Device, message: Any, now: int, clock: int) -> bool:
        """Takes a message; returns whether it can be used."""
        stamp, limit = stamp_ns(message), self._parameters.teleop.timeout_sec
        timeout, fault = int(limit * NANOSECONDS), None
        if clock:
            self._stamps.note(device.name, stamp, clock)
            fault = self._stamps.complaint(device.name, limit, "teleop.timeout_sec")
        try:
            if fault is not None:
                raise TeleopError(fault)
            wish = device.reader.read(message)
        except TeleopError as error:
            self.refuse(device, str(error), now)
            # Somebody wants the arm, so the policy may not go on moving it.
            if device.reader.asks(message):
                self.take(device.name)
            return False
        if stamp < device.stamp <= clock + timeout:
            # Overtaken by a newer one, or the clock was set back: it moves nothing, but releases.
            if not wish.pressed:
                device.wish = wish
            return False
        device.stamp = stamp
        age = max(0, clock - stamp) if clock else 0
        until = now + int(device.silence_sec * NANOSECONDS) - age
        device.accept(wish, now, until, self._parameters.input.recovery_sec)
        if wish.pressed:
            self.take(device.name)
        return True
