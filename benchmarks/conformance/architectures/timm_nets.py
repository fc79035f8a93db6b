"""Nets of timm, the small ones of each family or small ones made of it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from benchmarks.conformance.architectures.architecture import allow_torchvision, image, net


def _timm(name: str, model: str, size: int = 64, *, formats: bool = False, **options: Any) -> None:
    @net(name, "vision", image(size), formats=formats)
    def build() -> nn.Module:
        allow_torchvision()
        import timm

        made: nn.Module = timm.create_model(model, pretrained=False, num_classes=10, **options)
        return made


_SMALL: dict[str, Any] = {"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 4}

_timm("deit", "deit_tiny_distilled_patch16_224", **_SMALL)
_timm("beit", "beit_base_patch16_224", **_SMALL)
_timm("eva02", "eva02_tiny_patch14_224", 56, img_size=56, embed_dim=64, depth=2, num_heads=4)
_timm("cait", "cait_xxs24_224", **_SMALL)
_timm("xcit", "xcit_nano_12_p16_224", **_SMALL)
_timm("crossvit", "crossvit_tiny_240", 240, depth=[[1, 1, 0]], embed_dim=[32, 64], num_heads=[2, 2])
_timm("mobilevit", "mobilevit_xxs", formats=True)
_timm("mobilevit_v2", "mobilevitv2_050")
_timm("nf_resnet", "nf_resnet26")
_timm("eca_nfnet", "eca_nfnet_l0")
_timm("ghostnet", "ghostnet_050")
_timm("hrnet", "hrnet_w18_small")
_timm(
    "efficientformer", "efficientformer_l1", 224, embed_dims=[16, 24, 32, 48], depths=[1, 1, 1, 2], num_vit=1
)
_timm("efficientformer_v2", "efficientformerv2_s0", 64, img_size=64)
_timm("coatnet", "coatnet_pico_rw_224", 64, img_size=64)
_timm("pvt_v2", "pvt_v2_b0", formats=True)
_timm("levit", "levit_128s", 224)
_timm("edgenext", "edgenext_xx_small")
_timm("repvgg", "repvgg_a0", formats=True)
_timm("res2net", "res2net50_14w_8s")
_timm("skresnet", "skresnet18")
_timm("resnest", "resnest14d")
_timm("convnext_v2", "convnextv2_atto")
_timm("fastvit", "fastvit_t8")
_timm("repvit", "repvit_m0_9")
_timm("mambaout", "mambaout_femto")
_timm("efficientvit", "efficientvit_b0")
_timm("davit", "davit_tiny", embed_dims=[16, 32], depths=[1, 1], num_heads=[2, 2])
_timm(
    "tiny_vit",
    "tiny_vit_5m_224",
    224,
    embed_dims=[16, 32, 32, 64],
    depths=[1, 1, 1, 1],
    num_heads=[1, 1, 2, 2],
)
_timm("mobilenet_v4", "mobilenetv4_conv_small")
_timm(
    "twins",
    "twins_svt_small",
    64,
    img_size=64,
    embed_dims=[16, 32, 32, 64],
    depths=[1, 1, 1, 1],
    num_heads=[1, 1, 2, 2],
)
_timm("gcresnet", "gcresnext26ts")
_timm("halonet", "halonet26t", 256)
_timm("botnet", "botnet26t_256", 64, img_size=64)
_timm("rexnet", "rexnet_100")
_timm("vovnet", "ese_vovnet19b_dw")
_timm("cspresnet", "cspresnet50")
_timm("dla", "dla46x_c")
_timm("dpn", "dpn48b")
_timm("mobileone", "mobileone_s0")
_timm("starnet", "starnet_s050")
_timm("hiera", "hiera_tiny_224", 224, embed_dim=16, stages=(1, 1, 1, 1))


def _class(name: str, path: str, size: int = 64, *, formats: bool = False, **options: Any) -> None:
    """A class of timm, `module.Class`, for what `create_model` cannot make small."""

    @net(name, "vision", image(size), formats=formats)
    def build() -> nn.Module:
        allow_torchvision()
        module, _, kind = path.rpartition(".")
        family = import_module(f"timm.models.{module}")
        named = {
            key: getattr(family, value) if key.endswith("_layer") else value for key, value in options.items()
        }
        made: nn.Module = getattr(family, kind)(num_classes=10, **named)
        return made


_MLP: dict[str, Any] = {"img_size": 64, "embed_dim": 64, "num_blocks": 2}
_class("mixer", "mlp_mixer.MlpMixer", formats=True, **_MLP)
_class(
    "gmlp", "mlp_mixer.MlpMixer", **_MLP, mlp_ratio=4, block_layer="SpatialGatingBlock", mlp_layer="GatedMlp"
)
_class("resmlp", "mlp_mixer.MlpMixer", **_MLP, mlp_ratio=4, block_layer="ResBlock", norm_layer="Affine")
_class("volo", "volo.VOLO", img_size=64, layers=[1, 1], embed_dims=[32, 64], num_heads=[2, 4], mlp_ratio=3.0)
_timm("caformer", "caformer_s18")
_class("convmixer", "convmixer.ConvMixer", dim=48, depth=2)
_class(
    "focalnet", "focalnet.FocalNet", embed_dim=16, depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3)
)
_class(
    "sequencer", "sequencer.Sequencer2d", img_size=64, layers=(1, 1), patch_sizes=(8, 2), embed_dims=(16, 32),
    hidden_sizes=(8, 8), mlp_ratios=(2, 2),
)  # fmt: skip
_class("nest", "nest.Nest", img_size=64, num_levels=2, embed_dims=(16, 32), num_heads=(1, 2), depths=(1, 1))


@net("poolformer", "vision", image(64))
def poolformer() -> nn.Module:
    """PoolFormer."""
    allow_torchvision()
    from timm.models.metaformer import MetaFormer

    return MetaFormer(num_classes=10, depths=(1, 1), dims=(16, 32))  # type: ignore[no-any-return]


@net("mvit_v2", "vision", image(64))
def mvit_v2() -> nn.Module:
    """MViTv2."""
    allow_torchvision()
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    return MultiScaleVit(MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=16), img_size=64, num_classes=10)  # type: ignore[no-any-return]
