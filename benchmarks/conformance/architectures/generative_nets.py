"""Nets that make images or fields: autoencoders, generators, super-resolution, diffusion, NeRF."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Input, image, net


@net("autoencoder", "generative", image(32, 1), formats=True)
def autoencoder() -> nn.Module:
    """Convolutions down and transposed convolutions up."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)),
        nn.Sigmoid(),
    )


class _Vae(nn.Module):
    """Encoder to mean and variance, decoder from the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.ReLU())
        self.mean, self.variance = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(
            nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 256), nn.Unflatten(1, (1, 16, 16))
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.encoder(image)
        mean = self.mean(x)
        return self.decoder(mean), mean, self.variance(x)


@net("vae", "generative", image(16, 1))
def vae() -> nn.Module:
    """VAE."""
    return _Vae()


@net("dcgan", "generative", Input("noise", (16, 1, 1)))
def dcgan() -> nn.Module:
    """The generator of DCGAN."""
    return nn.Sequential(
        *(nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh()),
    )


@net("espcn", "generative", image(16, 1), formats=True)
def espcn() -> nn.Module:
    """Super-resolution by pixel shuffle."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3)),
    )


class _Edsr(nn.Module):
    """Residual blocks without norms, pixel shuffle, and a bicubic shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
                for _ in range(2)
            ]
        )
        self.up = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        x = self.inlet(image)
        for block in self.blocks:
            x = x + 0.1 * block(x)
        large = nn.functional.interpolate(image, scale_factor=2.0, mode="bicubic", align_corners=False)
        return self.outlet(self.up(x)) + large  # type: ignore[no-any-return]


@net("edsr", "generative", image(16))
def edsr() -> nn.Module:
    """EDSR."""
    return _Edsr()


class _Diffusion(nn.Module):
    """A step of a diffusion model: sinusoidal time, GroupNorm, scale and shift, self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.inlet, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.conv, self.attend = (
            nn.Conv2d(16, 16, 3, padding=1),
            nn.MultiheadAttention(16, 2, batch_first=True),
        )
        self.down, self.up = nn.Conv2d(16, 16, 3, 2, 1), nn.Upsample(scale_factor=2, mode="nearest")
        self.outlet = nn.Conv2d(32, 3, 3, padding=1)
        self.register_buffer("rates", torch.exp(-math.log(1e4) * torch.arange(8) / 8))

    def forward(self, image: Tensor, step: Tensor) -> Tensor:
        angles = step * self.rates
        scale, shift = self.time(torch.cat([angles.sin(), angles.cos()], 1)).chunk(2, 1)
        x = self.norm(self.inlet(image)) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        x = self.conv(nn.functional.silu(x))
        small = self.down(x)
        tokens = small.flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0]
        small = tokens.transpose(1, 2).reshape(small.shape)
        return self.outlet(torch.cat([self.up(small), x], 1))  # type: ignore[no-any-return]


@net("diffusion_unet", "generative", image(16), Input("step", (1,)))
def diffusion_unet() -> nn.Module:
    """Diffusion."""
    return _Diffusion()


class _Nerf(nn.Module):
    """Positions and directions with their Fourier features, a shortcut in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(39, 32), nn.Linear(71, 32)
        self.density, self.colour = (
            nn.Linear(32, 1),
            nn.Sequential(nn.Linear(35, 16), nn.ReLU(), nn.Linear(16, 3)),
        )
        self.register_buffer("octaves", 2.0 ** torch.arange(6))

    def forward(self, position: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        angles = (position.unsqueeze(-1) * self.octaves).flatten(1)
        x = torch.cat([position, angles.sin(), angles.cos()], 1)
        y = self.second(torch.cat([self.first(x).relu(), x], 1)).relu()
        return nn.functional.softplus(self.density(y)), self.colour(torch.cat([y, direction], 1)).sigmoid()


@net("nerf", "generative", Input("position", (3,)), Input("direction", (3,)))
def nerf() -> nn.Module:
    """NeRF."""
    return _Nerf()


class _Sine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 3)

    def forward(self, position: Tensor) -> Tensor:
        for layer in self.layers:
            position = torch.sin(3.0 * layer(position))
        return self.head(position)  # type: ignore[no-any-return]


@net("siren", "generative", Input("position", (2,)))
def siren() -> nn.Module:
    """SIREN."""
    return _Sine()


class _Coupling(nn.Module):
    """Affine coupling layers with a log-determinant."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(2)]
        )

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(values[:, 0])
        for inner in self.nets:
            kept, changed = values.chunk(2, 1)
            scale, shift = inner(kept).chunk(2, 1)
            scale = scale.tanh()
            values = torch.cat([changed * scale.exp() + shift, kept], 1)
            total = total + scale.sum(1)
        return values, total


@net("real_nvp", "generative", Input("values", (8,)))
def real_nvp() -> nn.Module:
    """RealNVP."""
    return _Coupling()


class _StyleBlock(nn.Module):
    """Instance norm with a style, and a spatial transformer that samples a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.place = nn.Linear(3 * 16 * 16, 6)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        turned = self.place(image.flatten(1)).view(-1, 2, 3) * 0.1 + torch.eye(2, 3)
        grid = nn.functional.affine_grid(turned, list(image.shape), align_corners=False)
        x = nn.functional.grid_sample(image, grid, align_corners=False)
        return self.head(self.norm(self.conv(nn.functional.pad(x, (1, 1, 1, 1), "reflect"))).relu())  # type: ignore[no-any-return]


@net("spatial_transformer", "generative", image(16))
def spatial_transformer() -> nn.Module:
    """Spatial transformer with instance norm."""
    return _StyleBlock()
