"""Nodes around the VLA node: recorder, player, demo monitor and bench."""
