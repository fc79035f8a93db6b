"""Which method leaves the most accurate network at a density: all from the same dense nets, side by side.

    python -m benchmarks.accuracy [--quick] [--task T] [--method M] [--density D] [--seed S]

docs/accuracy.md says how it is measured.
"""
