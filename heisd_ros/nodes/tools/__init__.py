"""Nodes around the VLA node: recorder, player, the demo's monitor, the bench."""
