"""Nets of torchvision: the classic convolutional ones, and transformers made small."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from benchmarks.conformance.architectures.architecture import allow_torchvision, image, net


def _models() -> Any:
    allow_torchvision()
    from torchvision import models

    return models


def _plain(name: str, size: int = 64, *, formats: bool = False, **options: Any) -> None:
    @net(name, "vision", image(size), formats=formats)
    def build() -> nn.Module:
        module: nn.Module = getattr(_models(), name)(num_classes=10, **options)
        return module


_plain("resnet18", formats=True)
_plain("resnet50")
_plain("resnext50_32x4d")
_plain("densenet121")
_plain("mobilenet_v2", formats=True)
_plain("mobilenet_v3_small", formats=True)
_plain("mobilenet_v3_large")
_plain("efficientnet_b0", formats=True)
_plain("regnet_x_400mf")
_plain("regnet_y_400mf")
_plain("shufflenet_v2_x0_5", formats=True)
_plain("squeezenet1_1", formats=True)
_plain("mnasnet0_5")
_plain("googlenet", aux_logits=False, init_weights=False)
_plain("inception_v3", 96, aux_logits=False, init_weights=False)


@net("vgg11_bn", "vision", image(32), formats=True)
def vgg11_bn() -> nn.Module:
    """Its head made small."""
    model = _models().vgg11_bn(num_classes=10)
    head = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


@net("alexnet", "vision", image(64))
def alexnet() -> nn.Module:
    """Its head made small."""
    model = _models().alexnet(num_classes=10)
    return nn.Sequential(
        model.features, nn.Flatten(), nn.Dropout(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)
    )


@net("vit", "vision", image(64), formats=True)
def vit() -> nn.Module:
    """ViT."""
    return _models().VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=10)  # type: ignore[no-any-return]


@net("swin", "vision", image(64))
def swin() -> nn.Module:
    """Swin."""
    return _models().SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10)  # type: ignore[no-any-return]


@net("swin_v2", "vision", image(64))
def swin_v2() -> nn.Module:
    """Swin with cosine attention."""
    from torchvision.models import swin_transformer as family

    return _models().SwinTransformer(  # type: ignore[no-any-return]
        [4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10,
        block=family.SwinTransformerBlockV2, downsample_layer=family.PatchMergingV2,
    )  # fmt: skip


@net("convnext", "vision", image(64), formats=True)
def convnext() -> nn.Module:
    """ConvNeXt."""
    models = _models()
    from torchvision.models.convnext import CNBlockConfig

    widths = [CNBlockConfig(24, 48, 2), CNBlockConfig(48, 96, 2), CNBlockConfig(96, None, 2)]
    return models.ConvNeXt(widths, layer_scale=0.1, num_classes=10)  # type: ignore[no-any-return]


@net("maxvit", "vision", image(64))
def maxvit() -> nn.Module:
    """MaxViT."""
    models = _models()
    return models.MaxVit(  # type: ignore[no-any-return]
        (64, 64),
        16,
        4,
        [16, 32],
        [1, 1],
        8,
        0.0,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
        num_classes=10,
    )
