"""The nets whose import and training step are timed, and their ONNX files under `.cache/zoo/speed/`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import allow_torchvision
from benchmarks.conformance.zoo_export import CACHE

FOLDER = CACHE / "speed"
OPSET = 17


@dataclass(frozen=True)
class Timed:
    """A net and a batch for it.

    Args:
        folding: whether the exporter folds constants, as it does by default; it then takes BatchNorm away, so
            a net with BatchNorm is exported without.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Tensor]
    folding: bool = True

    def native(self) -> nn.Module:
        """The torch module, the same every time."""
        allow_torchvision()
        torch.manual_seed(0)
        return self.build()

    def file(self) -> Path:
        """The ONNX file, exported once."""
        path = FOLDER / f"{self.name.replace(' ', '-')}.onnx"
        if not path.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self.native().eval(), (self.example()[:2],), str(path), dynamo=False, opset_version=OPSET,
                    do_constant_folding=self.folding, input_names=["x"], dynamic_axes={"x": {0: "batch"}},
                )  # fmt: skip
        return path


class _Tagger(nn.Module):
    """An LSTM with a class for every sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.LSTM(64, 128, num_layers=2, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, features) -> (batch, classes)."""
        return self.head(self.recurrent(x)[0][:, -1])  # type: ignore[no-any-return]


class _Transformer(nn.Module):
    """As large as GPT-2 medium: 24 layers of width 1,024 and 50,257 words, the same table at both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50_257, 1024)
        layer = nn.TransformerEncoderLayer(1024, 16, 4096, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 24, nn.LayerNorm(1024), enable_nested_tensor=False)
        for parameter in self.parameters():  # the layers begin as copies, which the exporter would merge
            nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length) token numbers -> (batch, length, words)."""
        return self.layers(self.table(x)) @ self.table.weight.T  # type: ignore[no-any-return]


def _resnet(name: str) -> nn.Module:
    from torchvision import models

    made: nn.Module = getattr(models, name)()
    return made


def _vit() -> nn.Module:
    import timm

    made: nn.Module = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    return made


RESNET50 = Timed("ResNet-50", lambda: _resnet("resnet50"), lambda: torch.randn(2, 3, 224, 224), False)
TRANSFORMER = Timed("transformer", _Transformer, lambda: torch.randint(0, 50_000, (2, 16)), False)
STEPS = (
    Timed("ResNet-18", lambda: _resnet("resnet18"), lambda: torch.randn(16, 3, 64, 64), False),
    Timed("ViT-tiny", _vit, lambda: torch.randn(8, 3, 224, 224)),
    Timed("LSTM", _Tagger, lambda: torch.randn(32, 100, 64)),
)
