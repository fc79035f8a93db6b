"""Devices that a test runs on: the CPU, and CUDA where there is one."""

from __future__ import annotations

import pytest
import torch

DEVICES = [
    pytest.param(torch.device("cpu"), id="cpu"),
    pytest.param(
        torch.device("cuda"),
        id="cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
    ),
]
