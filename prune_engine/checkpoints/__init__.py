"""Checkpoints of a job: written while it is trained, gone on from after whatever ended its process.

Nothing is imported here, so that `stopping` and `events` stay light.
"""
