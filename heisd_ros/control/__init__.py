"""Between a message's fields and a wanted command: inputs, inference, holds. Knows no ROS."""
