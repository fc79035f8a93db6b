"""The cells of LSTM, GRU and RNN, one time step each, with any activations.

The equations are those of the ONNX operators; `clip` bounds what goes into an activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prune_engine.formats.operators.table import Node, NotSupportedError

Activation = Callable[[Tensor], Tensor]

# name -> (alpha, beta) where the node gives none, those of onnxruntime; None where there is no such number
_NUMBERS: dict[str, tuple[float | None, float | None]] = {
    "relu": (None, None),
    "tanh": (None, None),
    "sigmoid": (None, None),
    "softsign": (None, None),
    "softplus": (None, None),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (0.0, None),
    "elu": (1.0, None),
    "affine": (0.0, 0.0),
    "scaledtanh": (0.0, 0.0),
    "hardsigmoid": (0.2, 0.5),
}


def _activation(name: str, alpha: float, beta: float) -> Activation:
    functions: dict[str, Activation] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": functional.softsign,
        "softplus": functional.softplus,
        "leakyrelu": lambda x: functional.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: functional.threshold(x, alpha, 0.0),
        "elu": lambda x: functional.elu(x, alpha),
        "affine": lambda x: alpha * x + beta,
        "scaledtanh": lambda x: alpha * torch.tanh(beta * x),
        "hardsigmoid": lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0),
    }
    return functions[name]


@dataclass(frozen=True)
class Activations:
    """The activation functions of one direction: (f, g, h) of an LSTM, (f, g) of a GRU, (f) of an RNN."""

    names: tuple[str, ...]
    functions: tuple[Activation, ...]


def read_activations(node: Node, default: Sequence[str], directions: int) -> list[Activations]:
    """The activations of every direction; each takes its alpha and beta, if it has them, in order.

    Raises:
        NotSupportedError: the node names a function that ONNX does not list.
    """
    given = node.attribute("activations") or list(default) * directions
    names = [(name.decode() if isinstance(name, bytes) else name).lower() for name in given]
    unknown = sorted(set(names) - set(_NUMBERS))
    if unknown:
        raise NotSupportedError(f"the activation {unknown[0]!r}", "Use one of " + ", ".join(_NUMBERS) + ".")
    alphas, betas = (
        iter(node.attribute("activation_alpha") or []),
        iter(node.attribute("activation_beta") or []),
    )
    built = [_activation(name, *_numbers(name, alphas, betas)) for name in names]
    size = len(default)
    return [
        Activations(tuple(names[i : i + size]), tuple(built[i : i + size]))
        for i in range(0, len(names), size)
    ]


def _numbers(name: str, alphas: Iterator[float], betas: Iterator[float]) -> tuple[float, float]:
    alpha, beta = _NUMBERS[name]
    return (
        0.0 if alpha is None else next(alphas, alpha),
        0.0 if beta is None else next(betas, beta),
    )


State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cell:
    """One direction's cell.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        activations: (f, g, h), (f, g) or (f).
        clip: bound of what goes into an activation, or None.
        input_forget: an LSTM's forget gate is 1 - its input gate.
        linear_before_reset: a GRU multiplies by the reset gate after the matrix product.
    """

    kind: str
    activations: tuple[Activation, ...]
    clip: float | None = None
    input_forget: bool = False
    linear_before_reset: bool = False

    def run(
        self,
        x: Tensor,
        weight: Tensor,
        recurrence: Tensor,
        bias: Tensor | None,
        state: State,
        valid: Tensor | None,
    ) -> tuple[Tensor, State]:
        """All hidden states [time, batch, hidden] and the last state.

        Args:
            x: [time, batch, input].
            weight, recurrence: [gates * hidden, input] and [gates * hidden, hidden], in ONNX's order.
            bias: [2 * gates * hidden], that of `weight` and then that of `recurrence`.
            state: hidden state (and cell state), each [batch, hidden].
            valid: [time, batch, 1], False past the end of a row, whose state then stays as it is.
        """
        of_input, of_state = (None, None) if bias is None else bias.chunk(2)
        projected = functional.linear(x, weight, of_input)
        step = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.kind]
        outputs = []
        for time in range(x.shape[0]):
            new = step(projected[time], recurrence, of_state, state)
            if valid is not None:
                new = tuple(torch.where(valid[time], a, b) for a, b in zip(new, state, strict=True))
            state = new
            outputs.append(state[0])
        return torch.stack(outputs) if outputs else x.new_zeros((0, *state[0].shape)), state

    def _bounded(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def _lstm(self, x: Tensor, recurrence: Tensor, bias: Tensor | None, state: State) -> State:
        hidden, memory = state
        f, g, h = self.activations
        gates = self._bounded(x + functional.linear(hidden, recurrence, bias))
        input_gate, output_gate, forget_gate, candidate = gates.chunk(4, -1)
        entering = f(input_gate)
        staying = 1 - entering if self.input_forget else f(forget_gate)
        memory = staying * memory + entering * g(candidate)
        return f(output_gate) * h(memory), memory

    def _gru(self, x: Tensor, recurrence: Tensor, bias: Tensor | None, state: State) -> State:
        (hidden,) = state
        f, g = self.activations
        size = hidden.shape[-1]
        x_gates, x_candidate = torch.split(x, [2 * size, size], -1)
        r_gates, r_candidate = torch.split(recurrence, [2 * size, size])
        b_gates, b_candidate = (None, None) if bias is None else torch.split(bias, [2 * size, size])
        gates = f(self._bounded(x_gates + functional.linear(hidden, r_gates, b_gates)))
        update, reset = gates.chunk(2, -1)
        if self.linear_before_reset:
            inner = reset * functional.linear(hidden, r_candidate, b_candidate)
        else:
            inner = functional.linear(reset * hidden, r_candidate, b_candidate)
        candidate = g(self._bounded(x_candidate + inner))
        return ((1 - update) * candidate + update * hidden,)

    def _rnn(self, x: Tensor, recurrence: Tensor, bias: Tensor | None, state: State) -> State:
        (f,) = self.activations
        return (f(self._bounded(x + functional.linear(state[0], recurrence, bias))),)
