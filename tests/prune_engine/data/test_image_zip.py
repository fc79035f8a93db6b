from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prune_engine.data import image_zip, read_data
from prune_engine.data.raw import RawData
from prune_engine.errors import DataError, DataFormatError, DataUnsafeError
from prune_engine.spec import PruneSpec

SPEC = PruneSpec(density=0.5)


def image(value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB", form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 10, 20)).save(buffer, form)
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, contents in members.items():
            out.writestr(name, contents)
    return path


def read(path: Path) -> RawData:
    return read_data(path, SPEC, name=path.name)


def test_one_folder_per_class_in_order_of_their_names(tmp_path: Path) -> None:
    members = {f"{name}/{i}.png": image(i) for name in ("dog", "cat") for i in range(3)}
    raw = read(archive(tmp_path / "a.zip", members))
    assert raw.kind == "image"
    assert raw.classes == ("cat", "dog")
    assert raw.train.inputs["x"].shape == (6, 4, 6, 3)
    assert raw.train.labels is not None
    assert raw.train.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert raw.train.inputs["x"][2, 0, 0].tolist() == [2, 10, 20]


def test_classes_that_are_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    members = {f"{name}/1.png": image() for name in range(11)}
    raw = read(archive(tmp_path / "a.zip", members))
    assert raw.classes == tuple(str(n) for n in range(11))


def test_a_folder_around_everything_and_a_train_and_test_level(tmp_path: Path) -> None:
    members = {
        f"data/{split}/{name}/{i}.jpg": image(mode="L", form="JPEG")
        for split, count in (("train", 4), ("test", 2))
        for name in ("a", "b")
        for i in range(count)
    }
    raw = read(archive(tmp_path / "a.zip", members | {"__MACOSX/x": b"", "data/.DS_Store": b""}))
    assert raw.test is not None
    assert (len(raw.train), len(raw.test)) == (8, 4)
    assert raw.train.inputs["x"].shape == (8, 4, 6)
    assert raw.warnings == ()


def test_the_validation_folder_is_measured_on_only_where_there_is_no_test_folder(tmp_path: Path) -> None:
    members = {f"{split}/{name}/1.png": image() for split in ("train", "val") for name in ("a", "b")}
    raw = read(archive(tmp_path / "a.zip", members))
    assert raw.test is not None
    both = {name.replace("val/", "test/"): contents for name, contents in members.items()}
    raw = read(archive(tmp_path / "b.zip", members | both))
    assert raw.test is not None
    assert any("val/ is not used" in warning for warning in raw.warnings)


def test_other_sizes_are_resized_to_the_most_common_one_with_a_warning(tmp_path: Path) -> None:
    members = {f"a/{i}.png": image() for i in range(3)} | {"b/1.png": image(size=(9, 9))}
    raw = read(archive(tmp_path / "a.zip", members))
    assert raw.train.inputs["x"].shape == (4, 4, 6, 3)
    assert raw.warnings == ("1 of 4 images were resized to the most common size, 6x4.",)


def test_images_without_class_folders_are_rows_without_labels(tmp_path: Path) -> None:
    raw = read(archive(tmp_path / "a.zip", {f"photos/{i}.png": image() for i in range(3)}))
    assert raw.train.labels is None
    assert any("distilled" in warning for warning in raw.warnings)


def test_files_that_are_no_images_are_left_out_with_a_warning(tmp_path: Path) -> None:
    members = {f"{name}/{i}.png": image() for name in "ab" for i in range(2)}
    raw = read(archive(tmp_path / "a.zip", members | {"a/notes.txt": b"hello"}))
    assert len(raw.train) == 4
    assert any("notes.txt" in warning for warning in raw.warnings)


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "a\\..\\x.png", "C:/x.png"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.zip", {"a/1.png": image(), name: image()})
    with pytest.raises(DataUnsafeError, match="leaves its folder"):
        read(path)


@given(parts=st.lists(st.sampled_from(["..", "a", "b", "."]), min_size=1, max_size=5), root=st.booleans())
def test_a_path_is_accepted_only_if_it_stays_inside(parts: list[str], root: bool) -> None:
    info = zipfile.ZipInfo(("/" if root else "") + "/".join(parts))
    try:
        path = image_zip.check_path(info)
    except DataUnsafeError:
        assert root or ".." in parts or set(parts) == {"."}
        return
    base = Path("/base")
    assert (base / path).resolve().is_relative_to(base)


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a/1.png", image())
        link = zipfile.ZipInfo("a/2.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
    with pytest.raises(DataUnsafeError, match="link"):
        read(path)


def test_an_image_with_too_many_pixels_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_zip, "MAX_PIXELS", 100)
    path = archive(tmp_path / "a.zip", {"a/1.png": image(), "b/1.png": image(size=(20, 20))})
    with pytest.raises(DataUnsafeError, match="20x20"):
        read(path)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    whole = image(size=(40, 40))
    path = archive(tmp_path / "a.zip", {"a/1.png": whole, "b/bad.png": whole[: len(whole) - 25]})
    with pytest.raises(DataError, match=r"b/bad\.png"):
        read(path)
    path = archive(tmp_path / "b.zip", {"a/1.png": whole, "b/bad.png": b"no image"})
    with pytest.raises(DataError, match="is no image"):
        read(path)


def test_an_archive_without_images_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="no images"):
        read(archive(tmp_path / "a.zip", {"a/1.txt": b"x"}))


def test_a_test_class_that_training_lacks_is_an_error(tmp_path: Path) -> None:
    members = {"train/a/1.png": image(), "train/b/1.png": image(), "test/c/1.png": image()}
    with pytest.raises(DataFormatError, match="no class folder that train/ has"):
        read(archive(tmp_path / "a.zip", members))


def test_sixteen_bit_grey_becomes_eight_bit(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8001, np.uint16)).save(buffer, "PNG")
    raw = read(archive(tmp_path / "a.zip", {"a/1.png": buffer.getvalue(), "b/1.png": buffer.getvalue()}))
    assert np.unique(raw.train.inputs["x"]).tolist() == [0x80]
