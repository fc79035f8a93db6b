"""The networks as torch modules; every prunable weight is the `weight` of a Linear, Conv2d or Embedding."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.accuracy.words import LENGTH, PADDING

PRUNABLE = (nn.Linear, nn.Conv2d, nn.Embedding)


def prunable(net: nn.Module) -> dict[str, nn.Module]:
    """The layers whose `weight` is pruned, by the name of that weight in the state of the module."""
    return {f"{name}.weight": layer for name, layer in net.named_modules() if isinstance(layer, PRUNABLE)}


class Stack(nn.Module):
    """Layers one after the other. (NNCF cannot prune an `nn.Sequential` itself: it adds a layer to it.)"""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's output."""
        y: Tensor = self.layers(x)
        return y


def lenet300() -> nn.Module:
    """784-300-100-10 with ReLU; 266,200 weights."""
    return mlp(784, 300, 100, 10, flatten=True)


def mlp(*sizes: int, flatten: bool = False) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()] if flatten else []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return Stack(*layers[:-1])


def lenet5() -> nn.Module:
    """LeNet-5 as Caffe has it: 20 and 50 filters of 5x5, then 500 and 10 neurons; 430,500 weights."""
    return Stack(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (He 2015, section 4.2, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.added = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(rows, inputs, height, width) -> (rows, outputs, height / stride, width / stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR-10, its values named as those of the given TorchScript file; 268,336 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = _blocks(16, 16), _blocks(16, 32), _blocks(32, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, 3, 32, 32) -> (rows, 10)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            y = layer(y)
        logits: Tensor = self.linear(y.mean((2, 3)))
        return logits


def _blocks(inputs: int, outputs: int) -> nn.Module:
    first = Block(inputs, outputs, 1 if inputs == outputs else 2)
    return nn.Sequential(first, Block(outputs, outputs, 1), Block(outputs, outputs, 1))


class Attention(nn.Module):
    """Multi-head self-attention over words that are not padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """x: (rows, words, width); hidden: (rows, 1, 1, words), large and negative at padding."""
        parts = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        query, key, value = (part.transpose(1, 2) for part in parts)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + hidden
        y: Tensor = self.out((scores.softmax(3) @ value).transpose(1, 2).flatten(2))
        return y


class Layer(nn.Module):
    """A pre-norm transformer layer; dropout serves the dense training only."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """As `Attention`."""
        x = x + self.dropout(self.attention(self.first_norm(x), hidden))
        y: Tensor = x + self.dropout(self.outer(functional.relu(self.inner(self.second_norm(x)))))
        return y


class WordTransformer(nn.Module):
    """Word and place embeddings, two layers with four heads, the mean over the words, two classes."""

    def __init__(self, words: int, dropout: float = 0.0, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        nn.init.normal_(self.words.weight, std=0.1)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.layers = nn.ModuleList([Layer(width, 4, dropout) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """(rows, LENGTH) int64 -> (rows, 2)."""
        there = (ids != PADDING).float()
        hidden = (there - 1.0)[:, None, None, :] * 1e4
        x = self.dropout(self.words(ids) + self.places)
        for layer in self.layers:
            x = layer(x, hidden)
        shares = there / there.sum(1, keepdim=True).clamp(min=1.0)
        y: Tensor = self.head(self.dropout((self.norm(x) * shares[:, :, None]).sum(1)))
        return y
