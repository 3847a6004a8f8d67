"""Benchmarks of decoding and search, part by part, with rooflines and peers."""
