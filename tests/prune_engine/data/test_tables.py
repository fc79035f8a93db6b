from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_engine.data import read_data
from prune_engine.data.raw import RawData
from prune_engine.errors import DataError, DataFormatError, NotFiniteError
from prune_engine.spec import PruneSpec


def read(path: Path, **fields: object) -> RawData:
    return read_data(path, PruneSpec(density=0.5, **fields), name=path.name)  # type: ignore[arg-type]


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_last_column_is_the_target_by_default(tmp_path: Path) -> None:
    raw = read(csv(tmp_path / "a.csv", "a,b,t\n1,2,0\n3,4.5,1\n"))
    assert raw.columns == ("a", "b")
    assert raw.target == "t"
    assert raw.train.inputs["x"].tolist() == [[1, 2], [3, 4.5]]
    assert raw.train.labels is not None
    assert raw.train.labels.dtype == np.int64


def test_words_become_sorted_classes(tmp_path: Path) -> None:
    raw = read(csv(tmp_path / "a.csv", "kind;a\nplum;1\nfig;2\nplum;3\n"), target_column="kind")
    assert raw.classes == ("fig", "plum")
    assert raw.train.labels is not None
    assert raw.train.labels.tolist() == [1, 0, 1]


def test_distillation_without_a_named_target_takes_all_columns(tmp_path: Path) -> None:
    raw = read(csv(tmp_path / "a.csv", "a,b\n1,2\n3,4\n"), task="distillation")
    assert raw.train.labels is None
    assert raw.train.inputs["x"].shape == (2, 2)


def test_a_file_without_a_header_line_is_noticed(tmp_path: Path) -> None:
    raw = read(csv(tmp_path / "a.csv", "1,2,0\n3,4,1\n"))
    assert len(raw.train) == 2
    assert any("f0" in warning for warning in raw.warnings)


@pytest.mark.parametrize(
    ("text", "fields", "error", "says"),
    [
        ("a,city,t\n1,Rome,0\n2,Oslo,1\n", {}, DataFormatError, "column 'city' holds"),
        ("a,b,t\n1,,0\n2,3,1\n", {}, NotFiniteError, "column 'b': 1 of 2 values are missing"),
        ("a,b,t\n1,2,\n2,3,1\n", {}, NotFiniteError, "target column 't': 1 of 2"),
        ("a,b,t\n1,inf,0\n2,3,1\n", {}, NotFiniteError, "1 infinite value in column 'b'"),
        ("a,t\n1,0\n", {"target_column": "nope"}, DataError, "no column 'nope'"),
        ("a,a,t\n1,2,0\n", {}, DataFormatError, "two columns are called 'a'"),
        ("t\n1\n", {}, DataFormatError, "no features"),
        ("a,t\n1,2,3\n", {}, DataFormatError, "cannot be read"),
    ],
)
def test_defects_are_named(
    tmp_path: Path, text: str, fields: dict[str, str], error: type[DataError], says: str
) -> None:
    with pytest.raises(error, match=says):
        read(csv(tmp_path / "a.csv", text), **fields)


def test_an_unknown_target_column_blames_that_parameter(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(csv(tmp_path / "a.csv", "a,t\n1,0\n"), target_column="u")
    assert caught.value.param == "target_column"


def test_parquet_reads_like_csv_and_knows_more_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "flag": pa.array([True, False, True]),
            "number": pa.array([1.5, 2.5, 3.5], pa.float32()),
            "kind": pa.array(["b", "a", "b"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    raw = read(tmp_path / "a.parquet")
    assert raw.classes == ("a", "b")
    assert raw.train.inputs["x"].tolist() == [[1, 1.5], [0, 2.5], [1, 3.5]]


def test_a_truncated_parquet_file_is_a_data_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000)), "t": list(range(1000))}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "b.parquet")


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False, width=64)] * 2, st.integers(0, 9)),
        min_size=2,
        max_size=8,
    ),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_numbers_survive_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, int]], delimiter: str
) -> None:
    lines = [delimiter.join(("a", "b", "t")), *(delimiter.join(map(repr, row)) for row in rows)]
    raw = read(csv(tmp_path_factory.mktemp("csv") / "a.csv", "\n".join(lines) + "\n"))
    assert raw.train.inputs["x"].tolist() == [[a, b] for a, b, _ in rows]
    assert raw.train.labels is not None
    assert raw.train.labels.tolist() == [t for _, _, t in rows]
