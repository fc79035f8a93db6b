"""The largest learning rate that a trained network stands, found by trying (Smith 2017, section 3.3).

Networks differ by orders of magnitude in what they stand: a ResNet whose BatchNorm was folded into its
convolutions is destroyed by a rate at which a multilayer perceptron hardly notices that it is trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from prune_engine.gates import FlatParameters
from prune_engine.training.distributed import agreed
from prune_engine.training.objective import Objective

STEPS = 40
SMALLEST = 1e-5
MARGIN = 3.0
DAMAGE = 0.4
SMOOTHING = 3


def standing_rate(
    flat: FlatParameters,
    objective: Objective,
    batches: Iterator[Tensor],
    wanted: float,
    until: float = math.inf,
) -> float:
    """The learning rate to train with: `wanted`, or less where the network does not stand that.

    Dense steps of Adam with a rate that rises from 1e-5 to three times `wanted`; where the loss has grown to
    40 % of what a constant answer would have, the network is damaged. A third of the rate there is what it
    stands. The parameters are put back. Training rows only.

    Args:
        flat: the parameters, all of them trained.
        objective: the loss; its module is in training mode.
        batches: rows to try on; 40 batches are taken.
        wanted: the rate that the rule asks for.
        until: when time is up, on the monotonic clock; then the largest rate that was tried is taken.
    """
    start = flat.values.clone()
    optimiser = torch.optim.Adam([flat.values], lr=SMALLEST, fused=True)
    rates = [SMALLEST * (MARGIN * wanted / SMALLEST) ** (step / (STEPS - 1)) for step in range(STEPS)]

    def damage() -> Iterator[tuple[float, float]]:
        limit, recent = 0.0, [0.0] * SMOOTHING
        for step, index in enumerate(islice(batches, STEPS)):
            flat.shown.copy_(flat.values)
            loss = float(objective.backward(index))
            recent = [*recent[1:], loss] if step else [loss] * SMOOTHING
            if step == 0:
                limit = max(DAMAGE * objective.constant_answer(index), 1.5 * loss)
                if limit == 0.0:  # the outputs do not depend on the inputs: there is nothing to damage
                    return
            yield rates[step], sum(recent) / SMOOTHING / limit
            if until < math.inf and agreed(float(time.monotonic() > until)):
                # Stands for damage at the next rate, which was not tried any more.
                yield rates[step] * MARGIN, math.inf
            flat.collect()
            optimiser.param_groups[0]["lr"] = rates[step]
            optimiser.step()

    # Written so that a loss that is not finite counts as damage.
    broken = next((rate for rate, share in damage() if not share < 1.0), None)
    flat.collect()
    flat.values.copy_(start)
    flat.shown.copy_(start)
    return wanted if broken is None else min(wanted, broken / MARGIN)
