"""A recording through the node's own inputs and decoding, without ROS: what moved since?"""
