"""Figures of others that we did not run: from their papers or tables that quote them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A figure as published: density as a share of the weights, accuracy in %."""

    task: str
    density: float
    accuracy: float
    by: str


PUBLISHED = (
    Published("lenet300", 0.0823, 98.41, "Han 2015"),
    Published("lenet300", 0.05, 98.4, "SNIP"),
    Published("lenet300", 0.02, 97.6, "SNIP"),
    Published("lenet300", 0.0166, 98.18, "GSM"),
    Published("lenet300", 0.0147, 98.08, "Sparse variational dropout"),
    Published("lenet300", 0.01, 96.8, "LC"),
    Published("lenet5", 0.008, 99.22, "GSM"),
    Published("lenet5", 0.0036, 99.25, "Sparse variational dropout"),
    Published("lenet5", 0.0033, 99.06, "GSM"),
)
