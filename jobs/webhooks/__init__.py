"""Webhooks: a job's ends told to an address of its owner, as Standard Webhooks describes it.

A message is written in the same commit as the move that it tells of, so no crash can come between the two; a
worker delivers it, again and again where need be.
"""
