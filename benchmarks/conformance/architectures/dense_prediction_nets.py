"""Segmentation, detection and depth: nets with an answer for every place of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Flat, allow_torchvision, image, net, tensors


class Whole(Flat):
    """Takes an image by torchvision's argument."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(batch, 3, height, width) -> the model's outputs."""
        return tuple(tensors(self.inner(image)))


class OfPixels(Flat):
    """Takes an image by transformers' argument."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(batch, 3, height, width) -> the model's outputs."""
        return self.run(pixel_values=image)


def _segmentation(name: str, model: str, formats: bool = False) -> None:
    @net(name, "dense prediction", image(64), formats=formats)
    def build() -> nn.Module:
        allow_torchvision()
        from torchvision.models import segmentation

        made = getattr(segmentation, model)
        return Whole(made(weights=None, weights_backbone=None, num_classes=5))


_segmentation("deeplabv3_mobilenet", "deeplabv3_mobilenet_v3_large")
_segmentation("lraspp", "lraspp_mobilenet_v3_large", formats=True)


@net("fcn", "dense prediction", image(64))
def fcn() -> nn.Module:
    """FCN over a ResNet-18."""
    allow_torchvision()
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    backbone = IntermediateLayerGetter(resnet18(), {"layer4": "out"})
    return Whole(FCN(backbone, FCNHead(512, 5)))


class _UNet(nn.Module):
    """U-Net with learned upsampling on one level and bilinear on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._block(3, 8), self._block(8, 16), self._block(16, 32)])
        self.grow = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.up = nn.ModuleList([self._block(32, 16), self._block(24, 8)])
        self.head = nn.Conv2d(8, 4, 1)

    @staticmethod
    def _block(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()),
            *(nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()),
        )

    def forward(self, image: Tensor) -> Tensor:
        first = self.down[0](image)
        second = self.down[1](nn.functional.max_pool2d(first, 2))
        x = self.up[0](torch.cat([self.grow(self.down[2](nn.functional.max_pool2d(second, 2))), second], 1))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.up[1](torch.cat([x, first], 1)))  # type: ignore[no-any-return]


@net("unet", "dense prediction", image(32), formats=True)
def unet() -> nn.Module:
    """U-Net."""
    return _UNet()


class _Pyramid(nn.Module):
    """A backbone, a feature pyramid and the heads of RetinaNet: scores and boxes before suppression."""

    def __init__(self) -> None:
        super().__init__()
        allow_torchvision()
        from torchvision.models import resnet18
        from torchvision.models.detection.backbone_utils import BackboneWithFPN
        from torchvision.models.detection.retinanet import RetinaNetHead

        layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
        self.backbone = BackboneWithFPN(resnet18(), layers, [128, 256, 512], 32)
        self.head = RetinaNetHead(32, 3, 4)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors(self.head(list(self.backbone(image).values()))))


@net("retinanet_heads", "dense prediction", image(64))
def retinanet_heads() -> nn.Module:
    """RetinaNet up to its boxes."""
    return _Pyramid()


class _Ssd(nn.Module):
    """SSDlite's heads over MobileNetV2, with anchors applied."""

    def __init__(self) -> None:
        super().__init__()
        allow_torchvision()
        from torchvision.models import mobilenet_v2
        from torchvision.models.detection.ssdlite import SSDLiteHead

        features = mobilenet_v2().features
        self.early, self.late = features[:14], features[14:]
        self.head = SSDLiteHead([96, 1280], [6, 6], 5, nn.BatchNorm2d)
        self.register_buffer("anchors", torch.rand(6 * (16 + 4), 4))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early(image)
        found = self.head([early, self.late(early)])
        centre = self.anchors[:, :2] + found["bbox_regression"][..., :2] * self.anchors[:, 2:]
        size = self.anchors[:, 2:] * found["bbox_regression"][..., 2:].exp()
        return torch.cat([centre - size / 2, centre + size / 2], -1), found["cls_logits"].softmax(-1)


@net("ssdlite_heads", "dense prediction", image(64))
def ssdlite_heads() -> nn.Module:
    """SSDlite up to its boxes."""
    return _Ssd()


class _Unit(nn.Sequential):
    """Convolution, BatchNorm, SiLU."""

    def __init__(self, before: int, after: int, size: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.SiLU()
        )


class _Split(nn.Module):
    """Half of the channels pass a bottleneck, all parts are joined (C2f in YOLOv8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inlet, self.outlet = _Unit(width, width), _Unit(width // 2 * 3, width)
        self.inner = nn.Sequential(_Unit(width // 2, width // 2, 3), _Unit(width // 2, width // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.inlet(x).chunk(2, 1)
        return self.outlet(torch.cat([a, b, b + self.inner(b)], 1))  # type: ignore[no-any-return]


class _Yolo(nn.Module):
    """A small detector of the YOLO kind: pyramid pooling, upsampling, distribution focal boxes."""

    bins = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Unit(3, 8, 3, 2), _Unit(8, 16, 3, 2), _Split(16))
        self.deep = nn.Sequential(_Unit(16, 32, 3, 2), _Split(32))
        self.pool, self.mix = nn.MaxPool2d(5, 1, 2), _Unit(128, 32)
        self.up, self.fine = nn.Upsample(scale_factor=2, mode="nearest"), _Unit(48, 16)
        self.boxes = nn.ModuleList([nn.Conv2d(width, 4 * self.bins, 1) for width in (16, 32)])
        self.classes = nn.ModuleList([nn.Conv2d(width, 3, 1) for width in (16, 32)])
        self.register_buffer("steps", torch.arange(self.bins, dtype=torch.float32).view(1, self.bins, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        shallow = self.stem(image)
        pooled = [self.deep(shallow)]
        for _ in range(3):
            pooled.append(self.pool(pooled[-1]))
        deep = self.mix(torch.cat(pooled, 1))
        levels = [self.fine(torch.cat([self.up(deep), shallow], 1)), deep]
        found = []
        for level, box, kind in zip(levels, self.boxes, self.classes, strict=True):
            height, width = level.shape[2:]
            sides = box(level).view(-1, 4, self.bins, height * width).transpose(1, 2).softmax(1)
            sides = (sides * self.steps).sum(1)
            found.append(torch.cat([sides, kind(level).flatten(2).sigmoid()], 1))
        return torch.cat(found, 2)


@net("yolo", "dense prediction", image(64), formats=True)
def yolo() -> nn.Module:
    """YOLO-like."""
    return _Yolo()


def _transformers(name: str, model: str, size: int = 64, **config: Any) -> None:
    @net(name, "dense prediction", image(size))
    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, model)
        return OfPixels(made(made.config_class(**config)), return_dict=False)


_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_transformers(
    "segformer", "SegformerForSemanticSegmentation", depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32],
    num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32,
)  # fmt: skip
_transformers("yolos", "YolosForObjectDetection", **_VIT, image_size=[64, 64], num_detection_tokens=5)
_transformers(
    "dpt", "DPTForDepthEstimation", **{**_VIT, "num_hidden_layers": 4}, image_size=64, patch_size=16,
    backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 16, 16], fusion_hidden_size=16,
)  # fmt: skip


@net("detr", "dense prediction", image(64))
def detr() -> nn.Module:
    """DETR over a small ResNet."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=6,
    )  # fmt: skip
    return OfPixels(DetrForObjectDetection(config), return_dict=False)
