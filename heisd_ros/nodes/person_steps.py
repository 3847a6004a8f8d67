"""The person's side of the control loop: moves the arm as the person who has it asks, or holds it.

A person needs no pictures, no instruction and no model: only what concerns the arm itself holds it.
"""

from __future__ import annotations

import time

from heisd_ros.control.session import Session
from heisd_ros.control.watch import Watch
from heisd_ros.decoding.types import Source
from heisd_ros.nodes.actuation import Actuation
from heisd_ros.nodes.driver import ArmDriver
from heisd_ros.nodes.person import Person


class PersonSteps:
    """Executes what the person who has the arm asks for.

    Args:
        session: What was configured.
        arm: Executes the steps.
        driver: Commands the arm; takes the person's motion between two steps.
        person: Whoever may have the arm.
        watch: Knows the instruction.
    """

    def __init__(
        self, session: Session, arm: Actuation, driver: ArmDriver, person: Person, watch: Watch
    ) -> None:
        self._session, self._arm, self._driver = session, arm, driver
        self._person, self._watch = person, watch

    def follow(self, now: int, tell: bool = False) -> bool:
        """Lets the person move the arm, or holds it.

        Args:
            now: Steady time, ns.
            tell: Whether telemetry tells a hold that is no news.

        Returns:
            Whether the person moves it.
        """
        person, takeover = self._person, self._person.takeover
        hold = self._arm.problem(self._session.buffer.joint_problem(now))
        if hold is not None:
            takeover.disarm()
        hold = hold or person.hand_over(self._watch, now) or takeover.problem(now)
        if hold is not None:
            self._arm.hold(hold, now, tell)
            return False
        self._arm.end_hold(now)
        self._driver.move(person.twist(now), None)
        return True

    def step(self) -> None:
        """Takes a control step of the person's, as one of the policy's is taken."""
        now = time.monotonic_ns()
        if not self._person.taken or not self.follow(now):
            return
        step = self._person.step(self._arm.gripper, self._watch.instruction, now)
        self._arm.execute(
            step.twist,
            step.action,
            step.opening,
            Source.PERSON,
            self._arm.reports.of_person(step, now),
            answered=step.answered,
            since=now,
        )
