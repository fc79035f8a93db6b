"""LSTM, GRU and RNN: torch's own kernels where the node is an ordinary one, a loop of cells otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.recurrent_cells import Cell, read_activations
from prune_engine.formats.operators.table import Kernel, Node, NotSupportedError, operator

_PEEPHOLES = 7  # position of the LSTM's input P


@dataclass(frozen=True)
class _Kind:
    """What tells one recurrent operator from another.

    Args:
        gates: number of gates.
        order: for each of torch's gates, in torch's order, the place of that gate in ONNX's order.
        activations: the defaults.
        states: names of the initial states' input positions: hidden, then cell.
    """

    gates: int
    order: tuple[int, ...]
    activations: tuple[str, ...]
    states: tuple[int, ...]


_KINDS = {
    "LSTM": _Kind(4, (0, 2, 3, 1), ("sigmoid", "tanh", "tanh"), (5, 6)),  # iofc -> ifco
    "GRU": _Kind(3, (1, 0, 2), ("sigmoid", "tanh"), (5,)),  # zrh -> rzh
    "RNN": _Kind(1, (0,), ("tanh",), (5,)),
}


@operator("LSTM", "GRU", "RNN")
def _recurrent(node: Node) -> Kernel:
    """`layout` 1 (opset 14) puts the batch axis first.

    Raises:
        NotSupportedError: peephole weights that are not all zero, or an activation that ONNX does not list.
    """
    peepholes = node.constants.get(_PEEPHOLES)
    if node.has_input(_PEEPHOLES) and (peepholes is None or peepholes.any()):
        raise NotSupportedError(
            "peephole weights (input P)", "Export the model with LSTM cells that have no peepholes."
        )
    layer = _Layer(node)

    def kernel(
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        *states: Tensor | None,
    ) -> Any:
        initial = [*states, None, None][: len(layer.kind.states)]
        if layer.batch_first:
            x = x.transpose(0, 1)
            initial = [state if state is None else state.transpose(0, 1) for state in initial]
        hidden = recurrence.shape[-1]
        empty = (layer.directions, x.shape[1], hidden)
        given = tuple(x.new_zeros(empty) if state is None else state for state in initial)
        result = layer.run(x, weight, recurrence, bias, lengths, given)
        if layer.batch_first:
            y, *last = result
            result = y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)
        return result[0] if len(node.outputs) == 1 else result[: len(node.outputs)]

    return kernel


class _Layer:
    """One recurrent layer with its directions."""

    def __init__(self, node: Node) -> None:
        self.kind = _KINDS[node.operator]
        direction = node.attribute("direction", "forward")
        self.reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        self.directions = len(self.reverse)
        self.batch_first = bool(node.attribute("layout", 0))
        self.wants_cell_state = node.operator == "LSTM" and node.has_output(2)
        clip = node.attribute("clip", 0.0) or None
        activations = read_activations(node, self.kind.activations, self.directions)
        self.cells = [
            Cell(
                node.operator,
                chosen.functions,
                clip,
                bool(node.attribute("input_forget", 0)),
                bool(node.attribute("linear_before_reset", 0)),
            )
            for chosen in activations
        ]
        self.native = self._native(node.operator, {chosen.names for chosen in activations})

    def _native(self, name: str, activations: set[tuple[str, ...]]) -> Callable[..., Any] | None:
        """torch's kernel for this layer, where it has one."""
        cell = self.cells[0]
        if cell.clip is not None or cell.input_forget or len(activations) > 1:
            return None
        if name == "RNN":
            return {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}.get(next(iter(activations))[0])
        if activations != {self.kind.activations} or (name == "GRU" and not cell.linear_before_reset):
            return None
        return torch.lstm if name == "LSTM" else torch.gru

    def run(
        self,
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None,
        lengths: Tensor | None,
        states: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Y [time, directions, batch, hidden], then the last states [directions, batch, hidden]."""
        native = self.native if x.shape[0] > 0 and x.shape[1] > 0 else None
        if lengths is not None:
            if native is None or self.wants_cell_state:
                return self._loop(x, weight, recurrence, bias, lengths, states)
            return self._native_to_lengths(native, x, weight, recurrence, bias, lengths, states)
        if native is None:
            return self._loop(x, weight, recurrence, bias, None, states)
        flat = self._flat(weight, recurrence, bias)
        backward = self.reverse == (True,)
        y, *last = _call(native, x.flip(0) if backward else x, states, flat, self.directions == 2)
        y = y.reshape(*y.shape[:-1], self.directions, recurrence.shape[-1]).transpose(1, 2)
        return y.flip(0) if backward else y, *last

    def _flat(self, weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[list[Tensor]]:
        """Per direction torch's flat list of weights, with the gates in torch's order."""
        gates, order = self.kind.gates, self.kind.order
        hidden = recurrence.shape[-1]
        if gates == 1:
            rows = [[w, r] for w, r in zip(weight.unbind(), recurrence.unbind(), strict=True)]
        else:
            rows = [[] for _ in self.reverse]
            for tensor in (weight, recurrence):
                blocks = tensor.reshape(-1, hidden, tensor.shape[-1]).unbind()
                for direction, row in enumerate(rows):
                    row.append(torch.cat([blocks[direction * gates + place] for place in order]))
        if bias is not None:
            parts = bias.reshape(-1, hidden).unbind()
            for direction, row in enumerate(rows):
                for first in (2 * direction * gates, (2 * direction + 1) * gates):
                    row.append(torch.cat([parts[first + place] for place in order]))
        return rows

    def _native_to_lengths(
        self,
        native: Callable[..., Any],
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None,
        lengths: Tensor,
        states: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Each direction runs over all time steps; what lies past a row's end is cut off afterwards."""
        valid, turn = _frame(x, lengths)
        flat = self._flat(weight, recurrence, bias)
        outputs, last = [], []
        for direction, backward in enumerate(self.reverse):
            own = tuple(state[direction : direction + 1] for state in states)
            y = _call(native, _turned(x, turn) if backward else x, own, [flat[direction]], False)[0]
            end = (lengths.long() - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, y.shape[-1])
            last.append(torch.where(valid[0], y.gather(0, end)[0], 0.0))
            y = torch.where(valid, y, 0.0)
            outputs.append(_turned(y, turn) if backward else y)
        return torch.stack(outputs, 1), torch.stack(last)

    def _loop(
        self,
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None,
        lengths: Tensor | None,
        states: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        valid, turn = (None, None) if lengths is None else _frame(x, lengths)
        outputs, last = [], []
        for direction, (cell, backward) in enumerate(zip(self.cells, self.reverse, strict=True)):
            own = tuple(state[direction] for state in states)
            y, end = cell.run(
                _turned(x, turn) if backward else x,
                weight[direction],
                recurrence[direction],
                None if bias is None else bias[direction],
                own,
                valid,
            )
            y = y if valid is None else torch.where(valid, y, 0.0)
            outputs.append(_turned(y, turn) if backward else y)
            if valid is not None:  # onnxruntime's last state of an empty row is zero, not the initial one
                end = tuple(torch.where(valid[:1].any(0), state, 0.0) for state in end)
            last.append(end)
        return torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*last, strict=True))


def _call(
    native: Callable[..., Any], x: Tensor, states: tuple[Tensor, ...], flat: list[list[Tensor]], both: bool
) -> tuple[Tensor, ...]:
    """One call of torch's kernel: the output [time, batch, directions * hidden], then the last states."""
    weights = [tensor for row in flat for tensor in row]
    has_bias = len(flat[0]) > 2
    state = states if len(states) == 2 else states[0]
    # "train" keeps what the derivative needs; there is no dropout between the layers of one layer
    arguments = (x, state, weights, has_bias, 1, 0.0, torch.is_grad_enabled(), both, False)
    result: tuple[Tensor, ...]
    if torch.compiler.is_compiling():
        from prune_engine.formats.operators.recurrent_uncompiled import uncompiled

        result = uncompiled(native, *arguments)
    else:
        result = native(*arguments)
    return result


def _frame(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What is inside each row [time, batch, 1], and where each time step lies in the row read backwards."""
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    ends = lengths.long().unsqueeze(0)
    inside = time < ends
    return inside.unsqueeze(-1), torch.where(inside, ends - 1 - time, time)


def _turned(x: Tensor, turn: Tensor | None) -> Tensor:
    """`x` [time, batch, n] with its rows backwards, each within its own length."""
    if turn is None:
        return x.flip(0)
    return x.gather(0, turn.unsqueeze(-1).expand_as(x))
