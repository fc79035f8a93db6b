"""Small nets with the building blocks that people send, in plain torch.nn, and their exports."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(
    i: int, o: int, k: int = 3, s: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o), act())


def head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(features, 5))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 20), nn.Tanh(), nn.Linear(20, 5))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 12),
        nn.LeakyReLU(),
        nn.Linear(12, 5),
        nn.LogSoftmax(-1),
    )


def alexnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 2),
        nn.ReLU(),
        nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 8, 3, 1, 1, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(8, 5),
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 8), nn.MaxPool2d(2), conv_bn(8, 8), conv_bn(8, 8), nn.MaxPool2d(2), head(8)
    )


class Residual(nn.Module):
    def __init__(self, i: int, o: int, s: int) -> None:
        super().__init__()
        self.a, self.b = (
            conv_bn(i, o, 3, s),
            nn.Sequential(nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)),
        )
        self.down = (
            nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o)) if s > 1 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.b(self.a(x)) + self.down(x))


def resnet() -> nn.Module:
    return nn.Sequential(conv_bn(3, 8), Residual(8, 8, 1), Residual(8, 16, 2), head(16))


class OptionA(nn.Module):
    """The parameter-free shortcut of CIFAR ResNets: Slice and Pad."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(3, 8), conv_bn(8, 16, 3, 2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.b(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.fc(functional.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


class Squeeze(nn.Module):
    def __init__(self, c: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.f = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.f(x)


class Inverted(nn.Module):
    def __init__(self, act: type[nn.Module], gate: type[nn.Module] | None) -> None:
        super().__init__()
        self.f = nn.Sequential(
            conv_bn(8, 16, 1, act=act),
            conv_bn(16, 16, 3, groups=16, act=act),
            Squeeze(16, gate) if gate else nn.Identity(),
            nn.Conv2d(16, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def mobilenet_v2() -> nn.Module:
    return nn.Sequential(conv_bn(3, 8, 3, 2, act=nn.ReLU6), Inverted(nn.ReLU6, None), head(8))


def mobilenet_v3() -> nn.Module:
    return nn.Sequential(
        conv_bn(3, 8, 3, 2, act=nn.Hardswish), Inverted(nn.Hardswish, nn.Hardsigmoid), head(8)
    )


def efficientnet() -> nn.Module:
    return nn.Sequential(conv_bn(3, 8, 3, 2, act=nn.SiLU), Inverted(nn.SiLU, nn.Sigmoid), head(8))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 1, bias=False))
        self.b = nn.Sequential(nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 3, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.a(x)], 1)
        return torch.cat([x, self.b(x)], 1)


def densenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), Dense(), nn.Conv2d(16, 8, 1), nn.AvgPool2d(2), head(8))


class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.s, self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.s(x))
        return torch.cat([functional.relu(self.a(x)), functional.relu(self.b(x))], 1)


def squeezenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(),
        nn.Conv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class ConvNextBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dw, self.n = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.n(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.b(functional.gelu(self.a(y)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), ConvNextBlock(), head(8))


class Attention(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.cls, self.pos = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.n1, self.at, self.n2 = nn.LayerNorm(16), Attention(16, 4), nn.LayerNorm(16)
        self.mlp, self.fc = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        x = x + self.at(self.n1(x))
        return self.fc((x + self.mlp(self.n2(x)))[:, 0])


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.n1, self.n2 = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return self.fc((x + self.channels(self.n2(x))).mean(1))


class TextEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.fc = nn.Linear(16, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.fc(self.layer(x).mean(1))


class GroupNormed(nn.Module):
    """Norms without running statistics, an upsampling path, and a convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.i = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.GroupNorm(2, 8),
            nn.InstanceNorm2d(8, affine=True),
        )
        self.up, self.t, self.p = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv1d(4, 6, 3), nn.PReLU(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.i(functional.elu(self.g(self.a(x))))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.p(self.up(functional.max_pool2d(x, 2)))
        return self.t(x.flatten(2)).amax(-1)


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg": vgg,
    "resnet": resnet,
    "resnet_option_a": OptionA,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "densenet": densenet,
    "squeezenet": squeezenet,
    "convnext": convnext,
    "vit": ViT,
    "mixer": Mixer,
    "text_encoder": TextEncoder,
    "group_normed": GroupNormed,
}


def build(name: str) -> nn.Module:
    """A net in eval mode whose parameters and statistics all differ, as after training."""
    torch.manual_seed(0)
    net = NETS[name]()
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    for key, buffer in net.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.add_(0.5 * torch.rand_like(buffer))
    return net.eval()


def inputs(name: str, batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if name == "text_encoder":
        return torch.randint(0, 50, (batch, 12), generator=generator)
    return torch.randn(batch, 3, 16, 16, generator=generator)


def export(
    net: nn.Module,
    x: Tensor,
    exporter: str = "legacy",
    opset: int = 17,
    *,
    fixed_batch: bool = False,
    **kwargs: Any,
) -> onnx.ModelProto:
    """One of torch's two exporters; the batch axis is free unless `fixed_batch`."""
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            axes = None if fixed_batch else ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(
                net, (x,), dynamo=True, opset_version=opset, dynamic_shapes=axes, verbose=False, **kwargs
            )
            assert program is not None
            return program.model_proto
        stream: Any = io.BytesIO()
        axes = None if fixed_batch else {"x": {0: "batch"}, "y": {0: "batch"}}
        torch.onnx.export(
            net,
            (x,),
            stream,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=axes,
            **kwargs,
        )
        return onnx.load_model_from_string(stream.getvalue())
