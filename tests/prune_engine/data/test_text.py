from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from prune_engine.data import read_data
from prune_engine.errors import DataError, ShapeMismatchError
from prune_engine.measure import measure_quality, session
from prune_engine.spec import PruneSpec
from tests.prune_engine.data.nets import model_of, prepared_for

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "film"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


def counting_model(
    length: int | str = "T", names: tuple[str, ...] = ("input_ids", "attention_mask")
) -> onnx.ModelProto:
    """Class 1 where `good` outnumbers `bad`: an embedding of -1, 0 or 1, summed over the unmasked tokens."""
    table = np.array([[9.0], [0], [0], [0], [1], [-1], [0]], np.float32)
    nodes = [
        helper.make_node("Gather", ["table", names[0]], ["embedded"]),
        helper.make_node("Cast", [names[1]], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["embedded", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["sum"], keepdims=0),
        helper.make_node("Gemm", ["sum", "w"], ["logits"]),
    ]
    values = {
        "table": table,
        "last": np.array([2], np.int64),
        "tokens": np.array([1], np.int64),
        "w": np.array([[-1.0, 1.0]], np.float32),
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", length]) for name in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    return model_of(helper.make_graph(nodes, "g", inputs, outputs, weights))


def reviews(path: Path) -> Path:
    texts = ["good good film", "bad film", "film good", "bad bad film"] * 10
    lines = [f"{text},{int('good' in text)}" for text in texts]
    path.write_text("sentence,label\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("length", ["T", 6])
def test_texts_become_the_models_inputs(tmp_path: Path, tokenizer: Path, length: int | str) -> None:
    spec = PruneSpec(density=0.5, max_length=9)
    raw = read_data(reviews(tmp_path / "a.csv"), spec, name="reviews", tokenizer=tokenizer)
    model = counting_model(length)
    prepared = prepared_for(model, raw)
    feed = prepared.train.feed(slice(0, 1))
    assert feed["input_ids"].shape == feed["attention_mask"].shape == (1, 9 if length == "T" else length)
    assert feed["input_ids"][0, 0] == 1
    assert prepared.info.kind == "text"
    assert measure_quality(session(model, 1), prepared.holdout, prepared).value == 100


def test_long_texts_are_cut(tmp_path: Path, tokenizer: Path) -> None:
    arrays = {"x": np.array(["film " * 30 + "good", "film bad"] * 10), "y": np.array([1, 0] * 10)}
    np.savez(tmp_path / "a.npz", **arrays)
    raw = read_data(tmp_path / "a.npz", PruneSpec(density=0.5), name="a", tokenizer=tokenizer)
    prepared = prepared_for(counting_model(5), raw, preprocess={"scale": 1.0})
    assert prepared.train.feed(slice(None))["attention_mask"].sum(axis=1).max() == 5


def test_texts_without_a_tokenizer_are_refused_with_the_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array(["good", "bad"] * 10), y=np.array([1, 0] * 10))
    raw = read_data(tmp_path / "a.npz", PruneSpec(density=0.5), name="a")
    with pytest.raises(DataError, match=r"tokenizer\.json") as caught:
        prepared_for(counting_model(), raw)
    assert caught.value.param == "tokenizer"


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"version": "1.0"}')
    raw = read_data(
        reviews(tmp_path / "a.csv"), PruneSpec(density=0.5), name="a", tokenizer=tmp_path / "t.json"
    )
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        prepared_for(counting_model(), raw)


def test_a_model_without_one_input_for_tokens_is_a_mismatch(tmp_path: Path, tokenizer: Path) -> None:
    raw = read_data(reviews(tmp_path / "a.csv"), PruneSpec(density=0.5), name="a", tokenizer=tokenizer)
    with pytest.raises(ShapeMismatchError, match="one input for token ids"):
        prepared_for(counting_model(names=("first", "second")), raw)
