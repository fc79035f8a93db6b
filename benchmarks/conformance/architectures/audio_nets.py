"""Nets for sound: of transformers, built small, and our own of the usual kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Flat, Input, net

SAMPLES = 800
SOUND = Input("sound", (SAMPLES,))
WAVE = Input("wave", (1, SAMPLES))
FRAMES = Input("frames", (24, 16))  # time, mel bands


class OfSound(Flat):
    """Takes samples."""

    def forward(self, sound: Tensor) -> tuple[Tensor, ...]:
        """(batch, samples) -> the model's outputs."""
        return self.run(input_values=sound)


class OfSpectrum(Flat):
    """Takes features over time."""

    def forward(self, spectrum: Tensor) -> tuple[Tensor, ...]:
        """(batch, bands, time) -> the model's outputs."""
        return self.run(input_features=spectrum)


_WAV2VEC: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "vocab_size": 20,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3,
}  # fmt: skip


def _sound(name: str, model: str, formats: bool = False, **config: Any) -> None:
    @net(name, "audio", SOUND, formats=formats)
    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, model)
        return OfSound(made(made.config_class(**{**_WAV2VEC, **config})), return_dict=False)


_sound("wav2vec2", "Wav2Vec2ForCTC", formats=True)
_sound("hubert", "HubertForCTC")
_sound("wavlm", "WavLMForCTC")
_sound("sew", "SEWForCTC", squeeze_factor=2)
_sound("data2vec_audio", "Data2VecAudioForCTC", num_conv_pos_embeddings=2, conv_pos_kernel_size=5)


@net("whisper_encoder", "audio", Input("spectrum", (16, 40)))
def whisper_encoder() -> nn.Module:
    """The encoder of Whisper."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    return OfSpectrum(
        WhisperEncoder(WhisperConfig(num_mel_bins=16, max_source_positions=20, **sizes)), return_dict=False
    )


@net("spectrogram_transformer", "audio", Input("sound", (32, 16)))
def spectrogram_transformer() -> nn.Module:
    """AST."""
    from transformers import ASTConfig, ASTForAudioClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return OfSound(
        ASTForAudioClassification(ASTConfig(max_length=32, num_mel_bins=16, **sizes)), return_dict=False
    )


@net("m5", "audio", WAVE, formats=True)
def m5() -> nn.Module:
    """M5: a convolutional net on raw samples."""
    layers: list[nn.Module] = []
    for before, after, width, stride in ((1, 16, 40, 4), (16, 16, 3, 1), (16, 32, 3, 1)):
        layers += [nn.Conv1d(before, after, width, stride), nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10), nn.LogSoftmax(1))


class Tagger(nn.Module):
    """A recurrent net with an answer for every frame."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(16, 24, batch_first=True, **options)
        self.head = nn.Linear(24 * (1 + int(self.recurrent.bidirectional)), 6)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, time, bands) -> (batch, time, classes)."""
        return self.head(self.recurrent(frames)[0])  # type: ignore[no-any-return]


@net("lstm", "audio", FRAMES, formats=True)
def lstm() -> nn.Module:
    """LSTM."""
    return Tagger(nn.LSTM)


@net("bilstm_2", "audio", FRAMES)
def bilstm_2() -> nn.Module:
    """Two layers in both directions."""
    return Tagger(nn.LSTM, num_layers=2, bidirectional=True)


@net("gru_2", "audio", FRAMES, formats=True)
def gru_2() -> nn.Module:
    """Two layers of GRU."""
    return Tagger(nn.GRU, num_layers=2)


@net("bigru", "audio", FRAMES)
def bigru() -> nn.Module:
    """GRU in both directions."""
    return Tagger(nn.GRU, bidirectional=True)


@net("rnn_relu", "audio", FRAMES)
def rnn_relu() -> nn.Module:
    """An Elman net with ReLU."""
    return Tagger(nn.RNN, nonlinearity="relu")


class _LastState(nn.Module):
    """Classifies by the last hidden and cell state, beginning with a learned one."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(16, 24, batch_first=True)
        self.start = nn.Parameter(torch.randn(2, 1, 1, 24))
        self.head = nn.Linear(48, 6)

    def forward(self, frames: Tensor) -> Tensor:
        first, second = (state.expand(1, frames.shape[0], 24).contiguous() for state in self.start)
        _, (hidden, cell) = self.recurrent(frames, (first, second))
        return self.head(torch.cat([hidden[-1], cell[-1]], 1))  # type: ignore[no-any-return]


@net("lstm_last_state", "audio", FRAMES)
def lstm_last_state() -> nn.Module:
    """LSTM with learned first states."""
    return _LastState()


class _Crnn(nn.Module):
    """Convolutions, then a bidirectional LSTM over time, as in text and sound recognition."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d((1, 2)),
        )  # fmt: skip
        self.recurrent = nn.LSTM(64, 16, bidirectional=True)
        self.head = nn.Linear(32, 8)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.convolutions(frames.unsqueeze(1)).permute(2, 0, 1, 3).flatten(2)
        return self.head(self.recurrent(x)[0]).log_softmax(-1).transpose(0, 1)  # type: ignore[no-any-return]


@net("crnn", "audio", FRAMES)
def crnn() -> nn.Module:
    """CRNN."""
    return _Crnn()


class _Conformer(nn.Module):
    """One block of a conformer: two half feed-forward parts around attention and a gated convolution."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.inlet = nn.Linear(16, width)
        self.feed = nn.ModuleList([self._feed(width) for _ in range(2)])
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 4, batch_first=True)
        self.before, self.pointwise = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.batch_norm, self.out = nn.BatchNorm1d(width), nn.Conv1d(width, width, 1)
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, 8)

    @staticmethod
    def _feed(width: int) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.SiLU(), nn.Linear(64, width))

    def forward(self, frames: Tensor) -> Tensor:
        x = self.inlet(frames)
        x = x + 0.5 * self.feed[0](x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = nn.functional.glu(self.pointwise(self.before(x).transpose(1, 2)), 1)
        x = x + self.out(nn.functional.silu(self.batch_norm(self.depthwise(y)))).transpose(1, 2)
        return self.head(self.last(x + 0.5 * self.feed[1](x)))  # type: ignore[no-any-return]


@net("conformer", "audio", FRAMES)
def conformer() -> nn.Module:
    """Conformer."""
    return _Conformer()


class _WaveNet(nn.Module):
    """Dilated causal convolutions with gates and skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Conv1d(1, 16, 1)
        self.gates = nn.ModuleList([nn.Conv1d(16, 32, 2, dilation=2**i) for i in range(4)])
        self.skips = nn.ModuleList([nn.Conv1d(16, 16, 1) for _ in range(4)])
        self.head = nn.Conv1d(16, 8, 1)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.inlet(wave)
        total = torch.zeros_like(x)
        for level, (gate, skip) in enumerate(zip(self.gates, self.skips, strict=True)):
            a, b = gate(nn.functional.pad(x, (2**level, 0))).chunk(2, 1)
            y = skip(a.tanh() * b.sigmoid())
            x, total = x + y, total + y
        return self.head(total.relu())  # type: ignore[no-any-return]


@net("wavenet", "audio", Input("wave", (1, 64)), formats=True)
def wavenet() -> nn.Module:
    """WaveNet."""
    return _WaveNet()
