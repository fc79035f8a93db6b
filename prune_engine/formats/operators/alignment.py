"""Parameters for kernels that read more at a time than their address allows."""

from __future__ import annotations

from torch import Tensor

BYTES = 16
"""What CUDA's vector loads take at a time."""


def aligned(x: Tensor) -> Tensor:
    """`x`, or on CUDA a copy where it does not begin at a multiple of 16 bytes.

    Parameters in training are views of one flat tensor, and begin anywhere in it. cuDNN's normalisation ends
    the process's use of the GPU ("misaligned address") where its scale or bias does.
    """
    begins = x.storage_offset() * x.element_size()  # in memory that begins at a multiple of 256 bytes itself
    return x.clone() if x.is_cuda and begins % BYTES else x
