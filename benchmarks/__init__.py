"""Benchmarks: each writes its table to `benchmarks/results/`."""
