"""Time series: forecasting and classification."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Flat, Input, net

PAST = Input("past", (32, 4))  # time, channels


class _Causal(nn.Module):
    """Two dilated convolutions that see the past only, with weight normalisation, and a shortcut."""

    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__()
        wrap = torch.nn.utils.parametrizations.weight_norm
        self.convolutions = nn.ModuleList(
            [wrap(nn.Conv1d(width, after, 3, dilation=dilation)) for width in (before, after)]
        )
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()
        self.past = 2 * dilation

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.convolutions:
            y = convolution(nn.functional.pad(y, (self.past, 0))).relu()
        return (y + self.shortcut(x)).relu()  # type: ignore[no-any-return]


class _Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_Causal(4, 16, 1), _Causal(16, 16, 2), _Causal(16, 16, 4))
        self.head = nn.Linear(16, 3)

    def forward(self, past: Tensor) -> Tensor:
        return self.head(self.blocks(past.transpose(1, 2))[:, :, -1])  # type: ignore[no-any-return]


@net("tcn", "series", PAST)
def tcn() -> nn.Module:
    """TCN with weight normalisation."""
    return _Tcn()


class _DLinear(nn.Module):
    """Trend by a moving average, and one linear map each for trend and rest."""

    def __init__(self) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(32, 8), nn.Linear(32, 8)
        self.average = nn.AvgPool1d(5, 1)

    def forward(self, past: Tensor) -> Tensor:
        x = past.transpose(1, 2)
        trend = self.average(nn.functional.pad(x, (2, 2), mode="replicate"))
        return (self.trend(trend) + self.rest(x - trend)).transpose(1, 2)  # type: ignore[no-any-return]


@net("dlinear", "series", PAST, formats=True)
def dlinear() -> nn.Module:
    """DLinear."""
    return _DLinear()


class _NBeats(nn.Module):
    """Blocks that subtract what they explain."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(
            [nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()) for _ in range(3)]
        )
        self.back = nn.ModuleList([nn.Linear(32, 32) for _ in range(3)])
        self.ahead = nn.ModuleList([nn.Linear(32, 8) for _ in range(3)])

    def forward(self, past: Tensor) -> Tensor:
        rest, total = past, past.new_zeros(past.shape[0], 8)
        for body, back, ahead in zip(self.bodies, self.back, self.ahead, strict=True):
            y = body(rest)
            rest, total = rest - back(y), total + ahead(y)
        return total


@net("nbeats", "series", Input("past", (32,)), without_gradient=("back.2",))
def nbeats() -> nn.Module:
    """N-BEATS."""
    return _NBeats()


class _InceptionTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv1d(4, 8, k, padding=k // 2, bias=False) for k in (3, 7, 15)])
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(4, 8, 1, bias=False))
        self.norm, self.head = nn.BatchNorm1d(32), nn.Linear(32, 5)

    def forward(self, past: Tensor) -> Tensor:
        x = past.transpose(1, 2)
        y = torch.cat([*(branch(x) for branch in self.branches), self.pooled(x)], 1)
        return self.head(self.norm(y).relu().mean(-1))  # type: ignore[no-any-return]


@net("inception_time", "series", PAST)
def inception_time() -> nn.Module:
    """InceptionTime."""
    return _InceptionTime()


class _Attentive(nn.Module):
    """A GRU encoder and a decoder cell that attends to it, unrolled for four steps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cell = nn.GRU(4, 16, batch_first=True), nn.GRUCell(20, 16)
        self.query, self.out = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, past: Tensor) -> Tensor:
        seen, last = self.encoder(past)
        hidden, value, ahead = last[0], past[:, -1], []
        for _ in range(4):
            weights = torch.einsum("bth,bh->bt", seen, self.query(hidden)).softmax(1)
            context = torch.einsum("bt,bth->bh", weights, seen)
            hidden = self.cell(torch.cat([value, context], 1), hidden)
            value = self.out(hidden)
            ahead.append(value)
        return torch.stack(ahead, 1)


@net("seq2seq_attention", "series", PAST)
def seq2seq_attention() -> nn.Module:
    """GRU with attention."""
    return _Attentive()


class OfPast(Flat):
    """Takes past values by transformers' argument."""

    def forward(self, past: Tensor) -> tuple[Tensor, ...]:
        """(batch, time, channels) -> the model's outputs."""
        return self.run(past_values=past)


def _transformers(name: str, model: str, **config: Any) -> None:
    @net(name, "series", PAST)
    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, model)
        return OfPast(made(made.config_class(**config)), return_dict=False)


_transformers(
    "patchtst", "PatchTSTForPrediction", num_input_channels=4, context_length=32, patch_length=8,
    patch_stride=8, d_model=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32,
    prediction_length=8, loss="mse",
)  # fmt: skip
_transformers(
    "patchtsmixer", "PatchTSMixerForPrediction", num_input_channels=4, context_length=32, patch_length=8,
    patch_stride=8, d_model=16, num_layers=2, prediction_length=8,
)  # fmt: skip
