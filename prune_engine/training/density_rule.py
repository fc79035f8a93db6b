"""One rule for the hyperparameters that are `auto`: they follow how many weights are left per neuron.

Measured in `benchmarks/lab-book.md`. With few left, noise and a high learning rate find a better topology,
and the teacher only distracts; and after the gates, single weights that are exchanged for others still find
a better one. With many left, the noise of so many gates at once only disturbs, all the more the more there
are, and the learning rate falls, as the network is nearly what it was. The teacher helps; less where numbers
are learned, as a pruned network can be better than its dense one there. The magnitude prior and a large
epsilon, so that logits without gradient do not drift, are right for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from prune_engine.spec import Auto, PruneSpec


@dataclass(frozen=True)
class Rule:
    """The values that the rule gives, or the user's own."""

    learning_rate: float
    distillation: float
    gate_learning_rate: float
    gate_prior: float
    gate_noise: float
    gate_temperature: float
    gate_epsilon: float
    anneal_until: float
    gates_until: float
    fix_mask_at: float
    regrow: float
    shift: float


PLENTY_LEFT = 20.0
MANY_LEFT = 6.5
FEW_LEFT = 1.0
"""Weights left per neuron: scarce below the last, and between the others noise falls further.

ResNet-20 has so many at density 5 %, LeNet-300-100 at 1 % and at 0.15 %.
"""


FEWEST_EXCHANGED = 100
"""Kept weights below which none are exchanged: each is then too large a part of the function."""


UNSEEN_AGAIN = 5
SEEN_OFTEN = 10
"""Epochs: up to the first no row is learned by heart, from the second on it is worth moving all of them."""


FEWEST_MOVED = 0.3
"""Share of the images that are moved where few weights are left; all of them where many are.

Even 399 weights, chosen among 266,200, fit their training rows by 0.8 points better than others.
"""


def shift_share(epochs: int, most: float) -> float:
    """Share of the images that are moved in a training of so many epochs; `most` in a long one."""
    return most * min(max((epochs - UNSEEN_AGAIN) / (SEEN_OFTEN - UNSEEN_AGAIN), 0.0), 1.0)


def scarcity(kept: int, neurons: int) -> float:
    """0 where many weights are left per neuron, 1 where few are, log-linear between."""
    share = math.log(MANY_LEFT * neurons / kept) / math.log(MANY_LEFT / FEW_LEFT)
    return min(max(share, 0.0), 1.0)


def plenty(kept: int, neurons: int) -> float:
    """0 where no more than many weights are left per neuron, 1 where there are plenty, log-linear between."""
    share = math.log(kept / (MANY_LEFT * neurons)) / math.log(PLENTY_LEFT / MANY_LEFT)
    return min(max(share, 0.0), 1.0)


SLOWEST = 0.1


def ease(kept: int, neurons: int) -> float:
    """Factor on the learning rate of given weights: the more are left, the less is to be learned anew.

    1 where no more than plenty are left per neuron, then falling as their inverse, to a tenth at least.
    """
    return max(min(PLENTY_LEFT * neurons / kept, 1.0), SLOWEST)


SHORT, LONG = 4_290, 12_870
"""Steps of ten and of thirty epochs of MNIST at batch 128, which the end of the gates was measured with."""


def end_of_gates(steps: int) -> float:
    """Share of a training after which weights are exchanged instead, where few are left.

    A long training gives a smaller share of itself to the gates: they are done, the exchange is not.
    """
    longer = math.log(max(steps, SHORT) / SHORT) / math.log(LONG / SHORT)
    return 0.5 - 0.15 * min(longer, 1.0)


def gate_rule(
    spec: PruneSpec,
    *,
    kept: int,
    neurons: int,
    steps: int = SHORT,
    exchange: bool = True,
    numbers: bool = False,
) -> Rule:
    """Resolve the `auto` hyperparameters of `spec` for a model of `neurons` that keeps `kept` weights.

    `steps` are those of the whole training; `numbers` says that numbers are learned from labels, not classes.

    Without `exchange` no weights are exchanged once the gates are done: blocks, n:m groups and bounds on
    layers would not survive it.
    """
    scarce = scarcity(kept, neurons)
    slow = ease(kept, neurons) if spec.init == "given" else 1.0
    shift = min(max(2.0 * (1.0 - scarce), FEWEST_MOVED), 1.0)

    def choose(asked: Auto | float, many: float, few: float) -> float:
        return many + (few - many) * scarce if asked == "auto" else float(asked)

    if spec.method == "magnitude":
        return Rule(
            learning_rate=choose(spec.learning_rate, 3e-3 * slow, 3e-3),
            distillation=choose(spec.distillation, 0.7, 0.0),
            gate_learning_rate=0.0,
            gate_prior=0.0,
            gate_noise=0.0,
            gate_temperature=1.0,
            gate_epsilon=0.0,
            anneal_until=choose(spec.anneal_until, 0.6, 0.6),
            gates_until=choose(spec.fix_mask_at, 0.6, 0.6),
            fix_mask_at=choose(spec.fix_mask_at, 0.6, 0.6),
            regrow=0.0,
            shift=shift,
        )
    exchanged = exchange and kept >= FEWEST_EXCHANGED
    few_gated = end_of_gates(steps) if exchanged else 0.6
    return Rule(
        learning_rate=choose(spec.learning_rate, 5e-3 * slow, 1e-2),
        distillation=choose(spec.distillation, 0.3 if numbers else 0.7, 0.0),
        gate_learning_rate=choose(spec.gate_learning_rate, 0.1, 0.1),
        gate_prior=choose(spec.gate_prior, 2.0, 1.0),
        gate_noise=choose(spec.gate_noise, 0.2 - 0.15 * plenty(kept, neurons), 0.5),
        gate_temperature=choose(spec.gate_temperature, 0.5, 1.0),
        gate_epsilon=1e-3,
        anneal_until=choose(spec.anneal_until, 0.5, min(few_gated, 0.5)),
        gates_until=choose("auto" if exchanged else spec.fix_mask_at, 0.65, few_gated),
        fix_mask_at=choose(spec.fix_mask_at, 0.65, 0.9 if exchanged else 0.6),
        regrow=choose("auto", 0.0, 0.2 if exchanged else 0.0),
        shift=shift,
    )
