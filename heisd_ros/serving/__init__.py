"""A policy on another machine: server, client and their messages. Imports no ROS."""
