from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prune_engine.errors import DataError, DataFormatError

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")

from prune_engine.data.hugging_face import arrays_of, load  # noqa: E402

CLASSES = datasets.ClassLabel(names=["cat", "dog"])


def saved(folder: Path, loaded: object) -> object:
    """Through Arrow files on disk, as the hub's data comes."""
    loaded.save_to_disk(str(folder))  # type: ignore[attr-defined]
    return datasets.load_from_disk(str(folder))


def images(count: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> list[Image.Image]:
    return [Image.new(mode, size, value if mode == "L" else (value, 0, 0)) for value in range(count)]


def split(columns: dict[str, list[object]], features: dict[str, object] | None = None) -> object:
    return datasets.Dataset.from_dict(columns, features=features and datasets.Features(features))


def test_images_and_classes(tmp_path: Path) -> None:
    features = {"img": datasets.Image(), "label": CLASSES}
    parts = {
        name: split({"img": images(rows), "label": [i % 2 for i in range(rows)]}, features)
        for name, rows in (("train", 5), ("test", 3))
    }
    arrays = arrays_of(saved(tmp_path / "d", datasets.DatasetDict(parts)))
    assert arrays["x_train"].shape == (5, 4, 6, 3)
    assert arrays["x_train"].dtype == np.uint8
    assert arrays["x_train"][3, 0, 0].tolist() == [3, 0, 0]
    assert arrays["y_train"].tolist() == [0, 1, 0, 1, 0]
    assert arrays["x_test"].shape == (3, 4, 6, 3)


def test_grey_images_have_no_channel_axis_and_other_sizes_are_resized(tmp_path: Path) -> None:
    pictures = [*images(3, "L"), *images(1, "L", (9, 9))]
    loaded = datasets.DatasetDict(
        {
            "train": split(
                {"image": pictures, "label": [0, 1, 0, 1]}, {"image": datasets.Image(), "label": CLASSES}
            )
        }
    )
    arrays = arrays_of(saved(tmp_path / "d", loaded))
    assert arrays["x_train"].shape == (4, 4, 6)
    assert set(arrays) == {"x_train", "y_train"}


def test_texts_and_hidden_test_labels(tmp_path: Path) -> None:
    features = {"idx": datasets.Value("int32"), "sentence": datasets.Value("string"), "label": CLASSES}
    rows = {"idx": [0, 1], "sentence": ["so good", "bad"], "label": [1, 0]}
    loaded = datasets.DatasetDict(
        {
            "train": split(rows, features),
            "validation": split({"idx": [0], "sentence": ["fine"], "label": [1]}, features),
            "test": split({"idx": [0], "sentence": ["hidden"], "label": [-1]}, features),
        }
    )
    arrays = arrays_of(saved(tmp_path / "d", loaded))
    assert arrays["x_train"].tolist() == ["so good", "bad"]
    assert arrays["x_test"].tolist() == ["fine"]
    assert arrays["y_test"].tolist() == [1]


def test_numbers_stand_side_by_side_with_their_names(tmp_path: Path) -> None:
    columns = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "target": [1.25, 2.25, 3.25]}
    arrays = arrays_of(saved(tmp_path / "d", datasets.DatasetDict({"train": split(columns)})))
    assert arrays["x_train"].tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert arrays["y_train"].tolist() == [1.25, 2.25, 3.25]
    assert arrays["feature_names"].tolist() == ["a", "b"]


def test_numbers_below_zero_are_labels_like_others() -> None:
    columns = {"a": [1.0, 2.0, 3.0], "label": [-1, 0, 1]}
    hidden = {"a": [4.0, 5.0], "label": [-1, -1]}
    rows = datasets.DatasetDict({"train": split(columns), "test": split(hidden)})
    arrays = arrays_of(rows)
    assert arrays["y_train"].tolist() == [-1, 0, 1]
    assert "x_test" not in arrays


def test_words_as_labels_are_kept_as_words(tmp_path: Path) -> None:
    arrays = arrays_of(datasets.DatasetDict({"train": split({"a": [1.0, 2.0], "label": ["no", "yes"]})}))
    assert arrays["y_train"].tolist() == ["no", "yes"]


def test_without_a_label_column_there_are_inputs_alone() -> None:
    arrays = arrays_of(datasets.DatasetDict({"train": split({"a": [1.0], "b": [2.0]})}))
    assert set(arrays) == {"x_train", "feature_names"}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"premise": ["a"], "hypothesis": ["b"], "label": [0]}, "several columns could be the input"),
        ({"tokens": [["a"]], "label": [0]}, "no column is an image"),
    ],
)
def test_unclear_columns_are_listed(columns: dict[str, list[object]], says: str) -> None:
    with pytest.raises(DataFormatError, match=says):
        arrays_of(datasets.DatasetDict({"train": split(columns)}))


def test_a_training_split_without_labels_is_refused() -> None:
    loaded = datasets.DatasetDict(
        {"train": split({"a": [1.0], "label": [-1]}, {"a": datasets.Value("float32"), "label": CLASSES})}
    )
    with pytest.raises(DataError, match="no labelled rows"):
        arrays_of(loaded)


def test_a_folder_of_files_is_loaded_like_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    (folder / "train.csv").write_text("a,b,target\n1,2,3\n4,5,6\n")
    (folder / "test.csv").write_text("a,b,target\n7,8,9\n")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    arrays = arrays_of(load(str(folder), "numbers", "numbers.npz"))
    assert arrays["x_train"].tolist() == [[1, 2], [4, 5]]
    assert arrays["y_test"].tolist() == [9]
