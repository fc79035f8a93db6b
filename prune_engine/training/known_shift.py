"""How far images may be moved in training, and whether mirrored: as far as the dense model still knows them.

Labels do not always survive a move: not where the place says what the row is, and not in very small images.
Nor do they always survive the mirror: digits do not. The dense model is asked instead of a list of data sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_engine.data.plane import Plane
from prune_engine.training.augmentation import Shifts
from prune_engine.training.losses import class_scores
from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Prepared

SAMPLE = 500
SMALLEST_SIDE = 16
FARTHEST = 1 / 28
"""Of an image's smaller side."""
SURVIVES = 0.95
"""Of the answers that are right on the rows as they are, those that must stay right on moved ones."""
NO_IMAGES = "no images with classes"
BETTER_THAN_GUESSING = 0.5
"""Of the way from always answering the commonest class to always being right: a model below knows too little
to say what a moved image is."""


def known_shift(module: Trainable, prepared: Prepared) -> tuple[int, str]:
    """By how many pixels training images are moved at most; 0: not at all. And why.

    Looks at the first 500 training rows. The module's mode stays.

    Args:
        module: the dense model.
        prepared: rows and labels.
    """
    planes = _planes(prepared)
    sides = [min(plane.height, plane.width) for plane in planes if plane is not None]
    if not sides:
        return 0, NO_IMAGES
    if min(sides) < SMALLEST_SIDE:
        return 0, f"images of less than {SMALLEST_SIDE} pixels"
    pixels = max(round(min(sides) * FARTHEST), 1)
    known, why = _survives(module, prepared, Shifts(planes, pixels), f"moved by {pixels}")
    return pixels if known else 0, why


def known_mirrored(module: Trainable, prepared: Prepared) -> tuple[bool, str]:
    """Whether training images may be mirrored, left for right, and why; arguments as for `known_shift`."""
    planes = _planes(prepared)
    if not any(planes):
        return False, NO_IMAGES
    return _survives(module, prepared, Shifts(planes, 0, mirror=True), "mirrored")


def _planes(prepared: Prepared) -> tuple[Plane | None, ...]:
    """The images in a row whose class is learned; empty where there are none."""
    planes = getattr(prepared.train, "planes", ())
    return planes if prepared.task == "classification" else ()


def _survives(module: Trainable, prepared: Prepared, moves: Shifts, what: str) -> tuple[bool, str]:
    """Whether the dense model knows moved rows nearly as well as rows as they are, and why."""
    labels, still, moved, other = _answers(module, prepared, moves)
    guessing = float(labels.bincount().max()) / len(labels)
    right = still == labels
    if float(right.float().mean()) < guessing + BETTER_THAN_GUESSING * (1.0 - guessing):
        return False, "the dense model knows too little to say whether labels survive it"
    if not (right & other).any():
        return False, f"{what}, they are the same"
    survive = float((moved == labels)[right & other].float().mean())
    if survive < SURVIVES:
        return False, f"{what}, the dense model still knows only {survive:.0%} of what it knew"
    return True, f"the dense model still knows {survive:.0%} of what it knew"


def _answers(module: Trainable, prepared: Prepared, moves: Shifts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels, the classes that the model sees in the rows as they are and in moved ones, and which of these
    are other than they were; (rows,) each."""
    labels: list[Tensor] = []
    still: list[Tensor] = []
    moved: list[Tensor] = []
    other: list[Tensor] = []
    size = prepared.fixed_batch or min(SAMPLE, len(prepared.train))
    was_training = isinstance(module, nn.Module) and module.training
    if isinstance(module, nn.Module):
        module.eval()
    with torch.no_grad():
        for start in range(0, min(len(prepared.train), SAMPLE), size):
            # A model that demands a batch size gets the last batch filled up with rows from the start.
            index = torch.arange(start, start + size) % len(prepared.train)
            inputs, wanted = prepared.train.batch(index)
            assert wanted is not None  # noqa: S101 - classes come with labels
            labels.append(wanted.reshape(-1).long())
            after = moves(inputs, index.to(inputs[0].device), 0)
            pairs = [(x != y).flatten(1).any(1) for x, y in zip(inputs, after, strict=True)]
            other.append(torch.stack(pairs).any(0))
            for seen, found in ((inputs, still), (after, moved)):
                scores = class_scores(module(*seen)[prepared.output_index].float(), prepared)
                found.append((scores > 0.0).long() if scores.ndim == 1 else scores.argmax(dim=-1))
    if isinstance(module, nn.Module):
        module.train(was_training)
    return torch.cat(labels), torch.cat(still), torch.cat(moved), torch.cat(other)
