"""Decoding an observation into action tokens: drafting, verification, and skipping of it."""
