"""FlexAttention: attention whose scores and probabilities pass through subgraphs of the node."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prune_engine.formats.operators.table import Kernel, Node, operator

PREVIEW = "ai.onnx.preview"
Modifier = Callable[[Tensor], Tensor]


def flexible_attention(
    scale: float | None, score_mod: Modifier | None = None, prob_mod: Modifier | None = None
) -> Kernel:
    """q [N, H, L, E], k [N, G, S, E], v [N, G, S, V] -> [N, H, L, V]; a key head serves H / G query heads.

    Args:
        scale: of the scores; the inverse root of E where it is None.
        score_mod: applied to the scores [N, H, L, S] before the softmax.
        prob_mod: applied to the probabilities after it.
    """

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        probabilities = torch.softmax(scores if score_mod is None else score_mod(scores), -1)
        result: Tensor = (probabilities if prob_mod is None else prob_mod(probabilities)) @ v
        return result

    return kernel


@operator("FlexAttention", domain=PREVIEW, since=1)
def _flex_attention(node: Node) -> Kernel:
    """Without subgraphs; those with any are compiled by `formats/modifiers.py`."""
    return flexible_attention(node.attribute("scale"))
