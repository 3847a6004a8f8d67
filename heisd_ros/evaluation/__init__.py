"""Rollouts in simulation and the statistics over them."""
