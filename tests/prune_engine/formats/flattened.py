"""Modules whose parameters lie as they do while they are trained."""

from __future__ import annotations

import torch

from prune_engine.formats import OnnxModule


def flat(module: OnnxModule, device: torch.device) -> OnnxModule:
    """Its parameters are views of one tensor, as in a training, at places that fit no vector load."""
    module.to(device)
    sizes = [parameter.numel() for parameter in module.parameters()]
    values = [parameter.detach().flatten() for parameter in module.parameters()]
    together = torch.cat([torch.zeros(1, device=device), *values])
    for parameter, view in zip(module.parameters(), together[1:].split(sizes), strict=True):
        parameter.data = view.view(parameter.shape)
    return module
