"""Pictures that the graph decodes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from prune_engine.errors import ModelError
from prune_engine.formats.importer import compile_graph
from tests.prune_engine.formats.operators.one_node import model

PIXELS = np.random.default_rng(44).integers(0, 256, (4, 5, 3)).astype(np.uint8)


def decoded(data: bytes, layout: str) -> np.ndarray:
    stream = np.frombuffer(data, np.uint8)
    proto = model("ImageDecoder", {"x": stream}, opset=20, types={"y0": 2}, pixel_format=layout)
    found: np.ndarray = compile_graph(proto)(torch.from_numpy(stream.copy()))[0].numpy()
    return found


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    assert np.array_equal(decoded(file.getvalue(), "RGB"), PIXELS)
    assert np.array_equal(decoded(file.getvalue(), "BGR"), PIXELS[:, :, ::-1])
    grey = np.asarray(Image.fromarray(PIXELS).convert("L"))
    assert np.array_equal(decoded(file.getvalue(), "Grayscale"), grey[:, :, None])


def test_bytes_that_are_no_picture() -> None:
    with pytest.raises(ModelError, match="no picture"):
        decoded(b"no picture at all", "RGB")
