"""ROS 2 nodes: the only room of the package that imports rclpy. See docs/nodes.md."""
