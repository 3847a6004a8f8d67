"""A policy on another machine: server, client and what they say to each other. Knows no ROS."""
