"""Pictures that the graph itself decodes."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prune_engine.errors import ModelError
from prune_engine.formats.operators.creation import check_size
from prune_engine.formats.operators.table import Kernel, Node, operator


@operator("ImageDecoder", since=20)
def _image_decoder(node: Node) -> Kernel:
    """The bytes of a JPEG, PNG, BMP, TIFF, WebP or PNM file to [height, width, channels]."""
    layout = node.attribute("pixel_format", "RGB")

    def kernel(stream: Tensor) -> Tensor:
        try:
            with Image.open(io.BytesIO(stream.cpu().numpy().tobytes())) as picture:
                check_size([*picture.size, len(picture.getbands())])
                pixels = np.array(picture.convert("L" if layout == "Grayscale" else "RGB"))
        except OSError as error:
            raise ModelError(f"{node.name} was given bytes that are no picture ({error}).") from error
        if layout == "Grayscale":
            pixels = pixels[:, :, None]
        elif layout == "BGR":
            pixels = pixels[:, :, ::-1]
        return torch.from_numpy(pixels.copy()).to(stream.device)

    return kernel
