"""What a model file is, told without reading it."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.errors import ModelEmptyError, ModelError, ModelFormatError
from service.sniffing import ModelSniffer
from tests.service.samples import small_onnx, zipped


def sniff(data: bytes, piece: int = 1000, filename: str = "m.onnx") -> str:
    sniffer = ModelSniffer(filename)
    for at in range(0, len(data), piece):
        sniffer.feed(data[at : at + piece])
    return sniffer.finish(lambda start, length: data[start : start + length])


@given(piece=st.integers(1, 400))
def test_an_onnx_file_is_one_however_it_is_cut_into_chunks(piece: int) -> None:
    assert sniff(small_onnx(), piece) == "onnx"


def test_every_truncation_inside_a_field_is_noticed() -> None:
    """A cut exactly between two top-level fields can still be a model; there are few such places."""
    data = small_onnx()
    accepted = []
    for end in range(len(data)):
        try:
            sniff(data[:end])
            accepted.append(end)
        except ModelError:
            pass
    for end in accepted:
        assert onnx.ModelProto.FromString(data[:end]).HasField("graph")
    assert len(accepted) <= 3


@pytest.mark.parametrize("name", ["resnet20.onnx", "resnet20.torchscript.pt", "resnet56.onnx"])
def test_real_models_are_recognised(shared_models: Path, name: str) -> None:
    data = (shared_models / "cifar10_resnet" / name).read_bytes()
    expected = "onnx" if name.endswith(".onnx") else "torchscript"
    assert sniff(data, 65_536) == expected
    with pytest.raises(ModelError):
        sniff(data[: len(data) // 2], 65_536)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "PNG"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 100, "tf2onnx"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}', "safetensors"),
        (b"hello, world, this is text that goes on for a while and is no model at all", "neither"),
        (b"\x00" * 1000, "neither"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (zipped("archive/data.pkl", "archive/data/0"), "torch.save"),
        (zipped("m/archive_format", "m/data/aotinductor/model/x.so"), "torch.export"),
        (zipped("serialized_exported_program.json", "version"), "torch 2.7"),
        (zipped("saved_model.pb", "variables/variables.index"), "tf2onnx"),
        (zipped("a.txt"), "TorchScript"),
    ],
)
def test_foreign_files_are_named_with_what_to_do(data: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        sniff(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zipped("m/archive_format", "m/models/model.json", "m/data/weights/weight_0"), "pt2"),
        (zipped("model.onnx", "model.onnx.data"), "zip"),
        (zipped("a/b/model.onnx"), "zip"),
        (zipped("m/constants.pkl", "m/data.pkl", "m/code/a.py"), "torchscript"),
    ],
)
def test_archives_are_told_apart_by_their_members(data: bytes, kind: str) -> None:
    assert sniff(data) == kind


def test_no_bytes_are_their_own_error() -> None:
    with pytest.raises(ModelEmptyError):
        sniff(b"")


def test_a_foreign_file_is_refused_before_it_is_complete() -> None:
    sniffer = ModelSniffer("m.onnx")
    with pytest.raises(ModelFormatError, match="PNG"):
        sniffer.feed(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100)


def test_a_file_of_endless_fields_is_left_early() -> None:
    with pytest.raises(ModelError):
        sniff(b"\x08\x08" + b"\x28\x01" * 200_000, 65_536)


@settings(max_examples=300)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"\x08\x08", b"PK\x03\x04", b"\x3a\x05"]))
def test_nothing_but_the_engine_s_errors_comes_out(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ModelError):
        sniff(start + data, 17)
