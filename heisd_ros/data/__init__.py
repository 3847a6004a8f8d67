"""Recorded episodes: reading and writing them."""
