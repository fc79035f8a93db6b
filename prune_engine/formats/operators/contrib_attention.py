"""Attention as onnxruntime's optimiser fuses it: with the projection in it, or with its biases and masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.rotary import rotate
from prune_engine.formats.operators.scaled_dot_product import (
    attend,
    attend_with_scores,
    combined_mask,
    merge_heads,
    positions_allowed,
    split_heads,
)
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

_SHARED_BUFFERS = "Export the model without a shared buffer for past and present."


def _refuse(node: Node, attributes: tuple[str, ...] = (), inputs: dict[int, str] | None = None) -> None:
    for name in attributes:
        if node.attribute(name, 0):
            raise NotSupportedError(f"{name} of {node.operator}", _SHARED_BUFFERS)
    for position, name in (inputs or {}).items():
        if node.has_input(position):
            raise NotSupportedError(f"the input {name} of {node.operator}", _SHARED_BUFFERS)


def _padding_mask(mask: Tensor, batch: int, keys: int, filler: float) -> Tensor:
    """What is added to the scores where a padding mask hides a key, in each of its forms.

    These are: ones and zeros [batch, keys] or [batch, length, keys]; the lengths [batch]; the ends and then
    the starts [2 * batch]; the lengths and then offsets [3 * batch + 2].
    """
    if mask.dim() > 1:
        seen = mask != 0
        return torch.where(seen.unsqueeze(1) if mask.dim() == 3 else seen[:, None, None, :], 0.0, filler)
    place = torch.arange(keys, device=mask.device)
    seen = place < mask[:batch].unsqueeze(1)
    if mask.shape[0] == 2 * batch:
        seen = seen & (place >= mask[batch:].unsqueeze(1))
    return torch.where(seen[:, None, None, :], 0.0, filler)


class _Attender:
    """The attention of [batch, heads, length, size] operands with the masks that a node has.

    A hidden key's score is lowered by `mask_filter_value`, a later key's to minus infinity.

    Args:
        padding: position of the node's padding mask.
        scored: whether the softmax's argument is wanted too; what is hidden is the lowest number there.
    """

    def __init__(self, node: Node, padding: int, scored: bool = False) -> None:
        if node.ranks.get(padding) == 4:
            raise NotSupportedError("a mask of four axes", "Export the model with a mask [batch, keys].")
        self.scale, self.filler = (
            node.attribute("scale") or None,
            node.attribute("mask_filter_value", -10000.0),
        )
        self.causal, self.scored = bool(node.attribute("unidirectional", 0)), scored

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, bias: Tensor | None, past: int
    ) -> tuple[Tensor, Tensor | None]:
        """The heads' outputs side by side [batch, length, heads * size], and the scores if wanted."""
        length, keys = q.shape[2], k.shape[2]
        mask = bias
        if padding is not None:
            hidden = _padding_mask(padding, q.shape[0], keys, self.filler)
            mask = hidden if bias is None else hidden + bias
        simple = mask is None and not past and length == keys and not self.scored
        if self.causal and not simple:
            allowed = positions_allowed(length, keys, past, q.device, causal=True)
            assert allowed is not None  # noqa: S101  # causal
            # onnxruntime takes it for granted that the last query sees every key
            mask = combined_mask(mask, torch.cat([allowed[:-1], torch.ones_like(allowed[-1:])]))
        if self.scored:
            y, scores = attend_with_scores(q, k, v, mask, scale=self.scale)
            return merge_heads(y), scores[2].clamp(min=torch.finfo(y.dtype).min)
        return merge_heads(attend(q, k, v, mask, scale=self.scale, causal=self.causal and simple)), None


@operator("Attention", since=1, domain=MICROSOFT)
def _attention(node: Node) -> Kernel:
    """Projects to query, key and value by one weight [inputs, 3 * hidden], then attends."""
    _refuse(node, ("past_present_share_buffer", "do_rotary"), {6: "past_sequence_length"})
    heads, sizes = node.attribute("num_heads"), node.attribute("qkv_hidden_sizes")
    attention = _Attender(node, 3)
    outputs = len(node.outputs)

    def kernel(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        past: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Any:
        projected = x @ weight if bias is None else x @ weight + bias
        parts = torch.split(projected, sizes or projected.shape[-1] // 3, -1)
        q, k, v = (split_heads(part, heads) for part in parts)
        before = 0
        if past is not None:
            before = past.shape[3]
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y, _ = attention(q, k, v, mask, added, before)
        return y if outputs == 1 else (y, torch.stack([k, v]))

    return kernel


@operator("MultiHeadAttention", since=1, domain=MICROSOFT)
def _multi_head_attention(node: Node) -> Kernel:
    """Takes query, key and value apart, key and value packed, or all three packed; adds their biases."""
    _refuse(node, (), {8: "past_sequence_length", 9: "cache_indirection"})
    heads, outputs = node.attribute("num_heads"), len(node.outputs)
    attention = _Attender(node, 4, node.has_output(3))

    def kernel(
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        bias: Tensor | None = None,
        padding: Tensor | None = None,
        added: Tensor | None = None,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
    ) -> Any:
        q, k, v = _unpacked(query, key, value, heads)
        if bias is not None:
            hidden = heads * q.shape[-1]
            parts = torch.split(bias, [hidden, hidden, bias.shape[0] - 2 * hidden])
            of_q, of_k, of_v = (part.view(heads, 1, -1) for part in parts)
            q = q + of_q
            if key is None or key.dim() != 4:  # keys of four axes are projected already
                k, v = k + of_k, v + of_v
        past = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
        y, scores = attention(q, k, v, padding, added, past)
        return y if outputs == 1 else (y, k, v, scores)[:outputs]

    return kernel


def _unpacked(query: Tensor, key: Tensor | None, value: Tensor | None, heads: int) -> list[Tensor]:
    """Query, key and value as [batch, heads, length, size]."""
    if query.dim() == 5:  # [batch, length, heads, 3, size]
        return list(query.permute(3, 0, 2, 1, 4).unbind())
    q = split_heads(query, heads)
    assert key is not None  # noqa: S101  # only a packed query comes alone
    if key.dim() == 5:  # [batch, length, heads, 2, size]
        return [q, *key.permute(3, 0, 2, 1, 4).unbind()]
    assert value is not None  # noqa: S101 - checked before
    return [q, *(part if part.dim() == 4 else split_heads(part, heads) for part in (key, value))]


@operator("RotaryEmbedding", since=1, domain=MICROSOFT)
def _rotary_embedding(node: Node) -> Kernel:
    """`position_ids` are [batch, length], or one number that the first position has.

    onnxruntime does not use the attribute `scale`.
    """
    heads, size = node.attribute("num_heads", 0), node.attribute("rotary_embedding_dim", 0)
    interleaved = bool(node.attribute("interleaved", 0))
    _refuse(node, ("is_packed_batching",))

    def kernel(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        flat = x.dim() == 3
        width = 2 * cos.shape[-1]
        split = split_heads(x, heads or x.shape[-1] // width) if flat else x
        if positions.dim() == 1:
            positions = (positions + torch.arange(split.shape[2], device=x.device)).unsqueeze(0)
        y = rotate(split, cos[positions].unsqueeze(1), sin[positions].unsqueeze(1), size, interleaved)
        return merge_heads(y) if flat else y

    return kernel


@operator("GroupQueryAttention", since=1, domain=MICROSOFT, host=(6,))
def _group_query_attention(node: Node) -> Kernel:
    """Causal attention with fewer key heads, a cache, rotary embedding and a window.

    `seqlens_k` is one less than the keys that each row has; a row's new keys end there.
    """
    for name in ("k_quant_type", "v_quant_type"):
        if node.attribute(name, "NONE") != "NONE":
            raise NotSupportedError(
                "a quantised cache of GroupQueryAttention", "Export it with a float cache."
            )
    _refuse(node, ("sliding_window_cache",))
    if node.has_input(14) or node.has_input(15):
        raise NotSupportedError("the normalised queries of GroupQueryAttention", "")
    heads, key_heads = node.attribute("num_heads"), node.attribute("kv_num_heads")
    scale, softcap = node.attribute("scale") or None, node.attribute("softcap", 0.0)
    causal, window = bool(node.attribute("causal", 1)), node.attribute("local_window_size", -1)
    rotary, interleaved = bool(node.attribute("do_rotary", 0)), bool(node.attribute("rotary_interleaved", 0))
    smooth = node.attribute("smooth_softmax", -1) == 1
    outputs = len(node.outputs)
    if node.has_output(3):
        raise NotSupportedError("the scores as an output of GroupQueryAttention", "Leave the output away.")

    def kernel(
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        past_key: Tensor | None,
        past_value: Tensor | None,
        last: Tensor,
        total: Any,
        cos: Tensor | None = None,
        sin: Tensor | None = None,
        position_ids: Tensor | None = None,
        added: Tensor | None = None,
        sink: Tensor | None = None,
    ) -> Any:
        if key is None or value is None:
            size = query.shape[-1] // (heads + 2 * key_heads)
            query, key, value = torch.split(query, [heads * size, key_heads * size, key_heads * size], -1)
        q, k, v = split_heads(query, heads), split_heads(key, key_heads), split_heads(value, key_heads)
        length, whole = q.shape[2], int(total if isinstance(total, int) else total[0])
        step = torch.arange(length, device=q.device)
        # how many keys a row had before: none where this call brings them all
        before = torch.zeros_like(last) if whole == length else last + 1 - length
        before = before.long().view(-1, 1)
        if rotary and cos is not None and sin is not None:
            place = before + step
            if position_ids is not None:  # onnxruntime looks at one of them only where there is no past
                place = position_ids[0, 0] + step.expand(q.shape[0], -1) if whole == length else position_ids
            turn = cos[place].unsqueeze(1), sin[place].unsqueeze(1), 2 * cos.shape[-1], interleaved
            q, k = rotate(q, *turn), rotate(k, *turn)
        k, v = (_appended(old, new, before, whole) for old, new in ((past_key, k), (past_value, v)))
        allowed = positions_allowed(
            length,
            k.shape[2],
            before.view(-1),
            q.device,
            causal=causal,
            left=window - 1 if window > 0 else -1,
        )
        if added is not None:
            added = functional.pad(added, (0, k.shape[2] - added.shape[-1]))
        present = torch.arange(k.shape[2], device=q.device) <= last.view(-1, 1, 1, 1)
        mask = combined_mask(combined_mask(added, allowed), present)
        if smooth or sink is not None:
            y = _attend_with_sink(q, k, v, mask, scale, softcap, sink)
        elif softcap:
            y = attend_with_scores(q, k, v, mask, scale=scale, softcap=softcap)[0]
        else:
            y = attend(q, k, v, mask, scale=scale)
        return merge_heads(y) if outputs == 1 else (merge_heads(y), k, v)[:outputs]

    return kernel


def _appended(old: Tensor | None, new: Tensor, before: Tensor, whole: int) -> Tensor:
    """The cache [batch, heads, whole or longer, size]: each row's old entries, its new ones, and zeros."""
    if old is None or (old.shape[2] == 0 and whole == new.shape[2]):
        return new
    longer = functional.pad(old, (0, 0, 0, max(whole - old.shape[2], 0)))
    kept = torch.arange(longer.shape[2], device=new.device) < before
    place = before + torch.arange(new.shape[2], device=new.device)
    cleared = torch.where(kept[:, None, :, None], longer, 0.0)
    return cleared.scatter(2, place[:, None, :, None].expand_as(new), new)


def _attend_with_sink(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float | None,
    softcap: float,
    sink: Tensor | None,
) -> Tensor:
    """Attention with one more key per head, of a given score (or 0) and without a value."""
    scores = attend_with_scores(q, k, v, mask, scale=scale, softcap=softcap)[1][2]
    extra = scores.new_zeros(1) if sink is None else sink.view(-1, 1, 1)
    shape = (*scores.shape[:-1], 1)
    weights = torch.softmax(torch.cat([scores, extra.expand(shape)], -1), -1)[..., :-1]
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)
