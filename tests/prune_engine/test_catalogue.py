from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from prune_engine.catalogue import check_name, default_cache_dir, entries, fetch
from prune_engine.data import read_data
from prune_engine.data.save_npz import save_npz
from prune_engine.errors import DatasetUnavailableError, UnknownDatasetError
from prune_engine.spec import PruneSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "datasets"
    made.mkdir()
    np.savez(made / "mnist.npz", x_train=np.zeros((12, 28, 28), np.uint8), y_train=np.zeros(12, np.uint8))
    np.savez(made / "houses.npz", x_train=np.zeros((12, 3)), y_train=np.zeros(12), x_test=np.zeros((4, 3)))
    (made / "broken.npz").write_bytes(b"PK nonsense")
    return made


def test_the_catalogue_lists_known_and_local_data_sets(folder: Path) -> None:
    listed = {entry.name: entry for entry in entries(folder)}
    assert list(listed) == ["digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "sst2", "houses"]
    assert listed["mnist"].source == "local folder"
    assert not listed["cifar10"].available
    houses = listed["houses"]
    assert (houses.kind, houses.task, houses.rows, houses.available) == ("table", "regression", 16, True)


def test_the_local_folder_is_looked_at_before_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "mnist.npz").write_bytes((folder / "houses.npz").read_bytes())
    assert fetch("mnist", datasets_dir=folder, cache_dir=cache) == folder / "mnist.npz"
    assert fetch("mnist", datasets_dir=None, cache_dir=cache) == cache / "mnist.npz"
    assert {entry.name: entry.available for entry in entries(None, cache)}["mnist"]


def test_digits_are_always_there_and_always_the_same(tmp_path: Path) -> None:
    first = fetch("digits", datasets_dir=None, cache_dir=tmp_path / "a")
    second = fetch("digits", datasets_dir=None, cache_dir=tmp_path / "b")
    with np.load(first) as a, np.load(second) as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
        assert a["x_train"].shape == (1438, 8, 8)
        assert a["x_train"].dtype == np.uint8
        assert a["x_train"].max() == 16
        held = np.bincount(a["y_test"]) / np.bincount(np.concatenate([a["y_train"], a["y_test"]]))
        assert np.allclose(held, 0.2, atol=0.01)
    raw = read_data(first, PruneSpec(density=0.5), name="digits", source="named")
    assert raw.kind == "image"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["digits.npz"]


@pytest.mark.parametrize("name", ["digits", "mnist", "houses", "hf:owner/some-name_1.0", "sst2"])
def test_known_names_pass(folder: Path, name: str) -> None:
    check_name(name, folder)


@pytest.mark.parametrize(
    "name",
    ["nope", "", "../mnist", "hf:owner", "hf:../x", "hf:a/../b", "hf:a/b/c", "/etc/passwd", "mnist\0", "a/b"],
)
def test_unknown_names_are_refused_with_what_is_known(folder: Path, name: str) -> None:
    with pytest.raises(UnknownDatasetError, match="digits, mnist") as caught:
        check_name(name, folder)
    assert caught.value.param == "dataset"


@pytest.mark.parametrize(
    ("name", "file"), [("fashion_mnist", "fashion_mnist.npz"), ("hf:a/b", "hf--a--b.npz")]
)
def test_without_a_network_the_user_is_told_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    monkeypatch.setattr(import_module("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetUnavailableError, match=rf"{file} .*DATASETS_DIR"):
        fetch(name, datasets_dir=None, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / file, x=np.zeros((3, 2)))
    assert fetch(name, datasets_dir=tmp_path, cache_dir=tmp_path / "cache") == tmp_path / file


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetUnavailableError, match="cache folder"):
        fetch("digits", datasets_dir=None, cache_dir=tmp_path / "file" / "cache")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        save_npz(tmp_path / "a.npz", {"x": np.array([None])})
    assert list(tmp_path.iterdir()) == []


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "prunery" / "datasets"


def test_importing_and_listing_need_neither_torch_nor_onnx(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from prune_engine.catalogue import entries; "
        "entries(Path(sys.argv[1])); "
        "print(sorted({'torch', 'onnx', 'sklearn', 'datasets'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
