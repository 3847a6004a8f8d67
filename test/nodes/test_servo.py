"""A Servo that is started by a service, as Humble's is, over DDS."""

from __future__ import annotations

from rclpy.node import Node
from std_srvs.srv import Trigger

from heisd_ros.control.holds import HoldReason
from heisd_ros.nodes.servo import ServoSetup
from heisd_ros.robot.declare import from_values
from heisd_ros.robot.parameters import VlaNodeParameters

PARAMETERS = from_values(VlaNodeParameters, {"servo.node": "/servo_server", "servo.setup": "start"})


def test_servo_is_started_and_the_arm_held_until_then(world):
    answers = [False, True]

    def start(request, response):
        response.success = answers.pop(0)
        return response

    node = world.add(Node, "holder")
    servo = ServoSetup(node, PARAMETERS)
    hold = servo.problem()
    assert hold.reason is HoldReason.SERVO_NOT_READY
    assert "waiting for service /servo_server/start_servo" in str(hold)
    node.create_service(Trigger, "/servo_server/start_servo", start)
    world.spin_until(lambda: servo.problem() is None, "Servo that was started")
    assert answers == []  # refused once, asked again once, and no more
    servo.close()
