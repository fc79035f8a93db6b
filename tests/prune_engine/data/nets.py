"""Small trained nets as ONNX, written node by node, and ways to prepare data for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from prune_engine.data import Prepared, RawData, data_from_arrays, prepare
from prune_engine.data.built_in import digits
from prune_engine.formats import input_infos, output_infos
from prune_engine.measure import run_session, session
from prune_engine.spec import PruneSpec

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def mlp(
    layers: Layers,
    row: Sequence[int | str] | None = None,
    *,
    end: str | None = None,
    batch: int | str = "N",
    element: int = TensorProto.FLOAT,
    name: str = "input",
    output: str = "output",
) -> onnx.ModelProto:
    """Gemm and Relu in turns, after a Flatten where a row has more than one axis; `end`: a last operator."""
    row = [layers[0][0].shape[0]] if row is None else row
    nodes, initializers, current = [], [], name
    if element != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [current], ["as_float"], to=TensorProto.FLOAT))
        current = "as_float"
    if len(row) > 1:
        nodes.append(helper.make_node("Flatten", [current], ["flat"], axis=1))
        current = "flat"
    for index, (weight, bias) in enumerate(layers):
        initializers.append(numpy_helper.from_array(weight.astype(np.float32), f"w{index}"))
        initializers.append(numpy_helper.from_array(bias.astype(np.float32), f"b{index}"))
        last = index == len(layers) - 1
        after = output if last and end is None else f"h{index}"
        nodes.append(
            helper.make_node("Gemm", [current, f"w{index}", f"b{index}"], [after], name=f"fc{index}")
        )
        current = after
        if not last:
            nodes.append(helper.make_node("Relu", [current], [f"r{index}"]))
            current = f"r{index}"
    if end is not None:
        attributes: dict[str, Any] = {} if end == "Sigmoid" else {"axis": -1}
        nodes.append(helper.make_node(end, [current], [output], **attributes))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info(name, element, [batch, *row])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, layers[-1][0].shape[1]])],
        initializers,
    )
    return model_of(graph)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@cache
def digits_layers(scale: float = 1 / 16, mean: float = 0.0, std: float = 1.0) -> Layers:
    """An MLP of 64-32-10, trained on the digits scaled like this."""
    data = digits()
    x = (data["x_train"].reshape(-1, 64) * scale - mean) / std
    net = MLPClassifier((32,), max_iter=60, random_state=0, learning_rate_init=0.01, tol=1e-2)
    net.fit(x, data["y_train"])
    return list(zip(net.coefs_, net.intercepts_, strict=True))


def prepared_for(model: onnx.ModelProto, data: RawData | Mapping[str, np.ndarray], **fields: Any) -> Prepared:
    raw = data if isinstance(data, RawData) else data_from_arrays(data)
    runtime = session(model, 1)
    spec = PruneSpec(density=0.5, **fields)
    return prepare(
        raw, input_infos(model), output_infos(model), lambda feed: run_session(runtime, feed), spec
    )
