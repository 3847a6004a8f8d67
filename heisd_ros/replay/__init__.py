"""Replays a recording through the node's inputs and decoding, without ROS."""
