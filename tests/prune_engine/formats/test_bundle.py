"""A zip of an ONNX file and its data files: read safely, written with the same members."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from prune_engine.errors import ExternalDataError, ModelError, ModelUnsafeError
from prune_engine.formats import import_onnx, read_model, save_model, write_back
from prune_engine.formats.bundle import read_bundle
from prune_engine.measure import measure_size
from tests.prune_engine.formats.damaged import damaged
from tests.prune_engine.formats.graphs import linear, model, values
from tests.prune_engine.formats.running import distance, run


def files(folder: Path, proto: onnx.ModelProto | None = None, name: str = "model.onnx") -> dict[str, bytes]:
    """A model as onnx itself saves it with a data file."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto or linear())
    onnx.save(copy, folder / name, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
    return {part: (folder / part).read_bytes() for part in (name, f"{name}.data")}


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pointing(folder: Path, **said: str) -> dict[str, bytes]:
    """The model with something else said of where its first tensor is."""
    members = files(folder)
    proto = onnx.ModelProto.FromString(members["model.onnx"])
    for entry in proto.graph.initializer[0].external_data:
        entry.value = said.get(entry.key, entry.value)
    return members | {"model.onnx": proto.SerializeToString()}


def test_a_zip_is_a_model_with_its_weights_inside(tmp_path: Path) -> None:
    path = pack(tmp_path / "m.zip", files(tmp_path))
    source = read_model(path, filename="llama.zip")
    assert (source.format, source.route, source.filename) == ("onnx", "as sent, from a zip", "llama.zip")
    assert source.bytes == path.stat().st_size
    assert source.storage is not None
    assert source.storage.sizes == {"model.onnx.data": 60}
    assert not any(t.external_data or t.data_location for t in source.proto.graph.initializer)
    x = torch.randn(3, 4)
    assert distance(import_onnx(source.proto)(x), run(linear(), x)) < 1e-6


@pytest.mark.parametrize("folder", ["", "exported/", "a/b/c/", "project/models/", "models/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_goes_out_untouched_is_what_came_in(tmp_path: Path, folder: str, method: int) -> None:
    members = {folder + name: content for name, content in files(tmp_path).items()}
    source = read_model(pack(tmp_path / "m.zip", members, method))
    assert save_model(source.proto, tmp_path, source.storage) == "model.zip"
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == members


def test_pruned_values_are_put_in_place(tmp_path: Path) -> None:
    source = read_model(pack(tmp_path / "m.zip", files(tmp_path)))
    fresh = values(4, 3, seed=9)
    save_model(write_back(source.proto, {"w": fresh}), tmp_path, source.storage)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path / "out")
        data = archive.read("model.onnx.data")
    assert (np.frombuffer(data[:48], "f").reshape(4, 3) == fresh).all()
    session_reads_it = onnx.load(tmp_path / "out" / "model.onnx")
    assert (numpy_helper.to_array(session_reads_it.graph.initializer[0]) == fresh).all()


def test_tensors_that_shared_their_bytes_part_when_one_of_them_changes(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    proto = model(nodes, {"a": values(4, 4), "b": values(4, 4)}, output=("n", 4))
    members = files(tmp_path, proto)
    skeleton = onnx.ModelProto.FromString(members["model.onnx"])
    places = [tensor.external_data for tensor in skeleton.graph.initializer]
    for mine, theirs in zip(places[1], places[0], strict=True):
        mine.value = theirs.value
    members["model.onnx"] = skeleton.SerializeToString()
    source = read_model(pack(tmp_path / "m.zip", members))
    pruned = write_back(source.proto, {"b": np.zeros((4, 4), "f")})
    save_model(pruned, tmp_path, source.storage)
    back = read_model(tmp_path / "model.zip").proto
    assert [numpy_helper.to_array(t).tolist() for t in back.graph.initializer] == [
        numpy_helper.to_array(t).tolist() for t in pruned.graph.initializer
    ]
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert measure_size(pruned, source.storage)[0] == sum(info.file_size for info in archive.infolist())


def test_tensors_in_branches_are_read_too(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", 1, ["n", 4])],
        [numpy_helper.from_array(values(4, 4), "inner")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["q"])],
        "else",
        [],
        [helper.make_tensor_value_info("q", 1, ["n", 4])],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=other)]
    source = read_model(
        pack(
            tmp_path / "m.zip",
            files(tmp_path, model(nodes, {"c": np.array(True)}, output=("n", 4)), "net.onnx"),
        )
    )
    inner = next(a.g for a in source.proto.graph.node[0].attribute if a.name == "then_branch").initializer[0]
    assert (numpy_helper.to_array(inner) == values(4, 4)).all()


def test_files_that_are_no_part_of_the_model_are_left_out_with_a_warning(tmp_path: Path) -> None:
    members = files(tmp_path) | {"config.json": b"{}", "__MACOSX/._model.onnx": b"\0" * 10}
    source = read_model(pack(tmp_path / "m.zip", members))
    assert "config.json" in source.warnings[0]


def test_a_zip_of_a_single_onnx_file_works(tmp_path: Path) -> None:
    source = read_model(pack(tmp_path / "m.zip", {"dir/model.onnx": linear().SerializeToString()}))
    assert source.proto == linear()


def test_no_model_and_two_models_are_told(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    with pytest.raises(ModelError, match=r"2 ONNX files: a\.onnx, b\.onnx"):
        read_model(pack(tmp_path / "m.zip", {"a.onnx": data, "b.onnx": data}))
    with pytest.raises(ModelError, match=r"no \.onnx file"):
        read_bundle(pack(tmp_path / "m.zip", {"a.txt": data}))


def test_a_data_file_that_is_missing_or_too_short_is_named(tmp_path: Path) -> None:
    members = files(tmp_path)
    data = members.pop("model.onnx.data")
    with pytest.raises(ExternalDataError, match=r"no file 'model\.onnx\.data'"):
        read_model(pack(tmp_path / "m.zip", members))
    with pytest.raises(ExternalDataError, match="cut off"):
        read_model(pack(tmp_path / "m.zip", members | {"model.onnx.data": data[:20]}))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "..\\x", "C:\\x", "a/../../x", ""])
def test_a_location_outside_the_zip_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelUnsafeError, match="no file of the zip"):
        read_model(pack(tmp_path / "m.zip", pointing(tmp_path, location=location)))


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"offset": "-4"}, "offset"),
        ({"offset": "1e3"}, "offset"),
        ({"offset": "9" * 30}, "offset"),
        ({"offset": "48"}, "should be at"),
        ({"length": "47"}, "takes 48 bytes"),
        ({"offset": "8"}, "overlap"),
    ],
)
def test_places_are_compared_with_what_is_there(tmp_path: Path, said: dict[str, str], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        read_model(pack(tmp_path / "m.zip", pointing(tmp_path, **said)))


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "..\\x", "C:/x", "NUL", "a/com1.bin", "aux.data"]
)
def test_members_that_lead_out_of_the_zip_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelUnsafeError, match="leads out"):
        read_model(pack(tmp_path / "m.zip", files(tmp_path) | {name: b"x"}))


def test_links_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "m.zip", {"model.onnx": files(tmp_path)["model.onnx"]})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("model.onnx.data")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelUnsafeError, match="link"):
        read_model(path)


def test_an_archive_that_unpacks_to_far_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = {"model.onnx": linear().SerializeToString(), "data": bytes(128 << 20)}
    with pytest.raises(ModelUnsafeError, match="unpacks from"):
        read_model(pack(tmp_path / "m.zip", bomb))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_is_an_error_and_never_a_wrong_model(tmp_path: Path, method: int) -> None:
    """Whatever is read after bits were flipped has every byte as it was: the zip's checksums are compared."""
    data = pack(tmp_path / "m.zip", files(tmp_path), method).read_bytes()
    path = tmp_path / "broken.zip"
    refused = 0
    for broken in damaged(data, 200, most=4):
        path.write_bytes(broken)
        try:
            source = read_model(path)
        except ModelError:
            refused += 1
        else:
            assert source.proto == linear()
    assert refused > 100


def test_a_zip_inside_a_stream_is_no_other_file(tmp_path: Path) -> None:
    """What is read is the file that was given, not one that lies beside it."""
    (tmp_path / "model.onnx.data").write_bytes(bytes(60))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("model.onnx", files(tmp_path)["model.onnx"])
    (tmp_path / "m.zip").write_bytes(held.getvalue())
    with pytest.raises(ExternalDataError):
        read_model(tmp_path / "m.zip")
