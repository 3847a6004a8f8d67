"""From message fields to a wanted command: inputs, inference and holds. Imports no ROS."""
