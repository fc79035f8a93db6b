"""The parts of the report that are counted from the module and its masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from prune_engine.formats import OnnxModule, SourceModel, input_infos, opset_versions, output_infos
from prune_engine.gates import Layout
from prune_engine.report import DensityInfo, Histogram, LayerRow, ModelInfo

_BINS = 60


def model_info(source: SourceModel, module: OnnxModule) -> ModelInfo:
    """What was sent."""
    proto = source.proto
    return ModelInfo(
        filename=source.filename,
        format=source.format,
        route=source.route,
        sha256=source.sha256,
        opset=opset_versions(proto)[""],
        ir_version=proto.ir_version,
        inputs=input_infos(proto),
        outputs=output_infos(proto),
        operators=dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        parameters=sum(weight.numel() for weight in module.weights.values()),
        prunable=sum(int(np.prod(weight.shape)) for weight in module.prunable),
    )


def layer_rows(module: OnnxModule, masks: Mapping[str, np.ndarray], layout: Layout) -> list[LayerRow]:
    """A row for each weight that has a mask, in the graph's order."""
    rows = []
    laid = {layer.name: layer for layer in layout.layers}
    for weight in module.prunable:
        if weight.name not in masks:
            continue
        mask = masks[weight.name]
        others = tuple(axis for axis in range(mask.ndim) if axis != weight.output_axis)
        alive = mask.any(axis=others)
        kept = int(mask.sum())
        rows.append(
            LayerRow(
                name=weight.name,
                kind=weight.kind,
                shape=weight.shape,
                kept=kept,
                prunable=mask.size,
                density=kept / mask.size,
                outputs=alive.size,
                dead_outputs=int((~alive).sum()),
                units=laid[weight.name].units,
                least=laid[weight.name].bounds[0],
                most=laid[weight.name].bounds[1],
            )
        )
    return rows


def density_info(module: OnnxModule, masks: Mapping[str, np.ndarray], requested: float) -> DensityInfo:
    """The density reached, counted twice: of the prunable weights, and of all parameters.

    `kept` counts non-zero values, not masks, so that the figure holds for the file that is handed out.
    """
    prunable = sum(mask.size for mask in masks.values())
    kept = sum(int(module.weights[name].detach().count_nonzero()) for name in masks)
    parameters = sum(weight.numel() for weight in module.weights.values())
    nonzero = sum(int(weight.detach().count_nonzero()) for weight in module.weights.values())
    return DensityInfo(
        requested=requested,
        reached=kept / prunable,
        kept=kept,
        prunable=prunable,
        nonzero_parameters=nonzero,
        parameters=parameters,
        of_all_parameters=nonzero / parameters,
    )


def weight_histogram(
    module: OnnxModule, before: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> Histogram:
    """Prunable weights before, and the kept ones after; the few beyond the range count in the last bins."""
    dense = np.concatenate([before[name].astype(np.float32).ravel() for name in masks])
    kept = np.concatenate(
        [module.weights[name].detach().float().cpu().numpy()[mask].ravel() for name, mask in masks.items()]
    )
    both = np.abs(np.concatenate([dense, kept]))
    limit = float(np.quantile(both, 0.999)) or 1.0
    edges = np.linspace(-limit, limit, _BINS + 1)
    return Histogram(
        edges=edges.tolist(),
        before=np.histogram(dense.clip(-limit, limit), edges)[0].tolist(),
        after=np.histogram(kept.clip(-limit, limit), edges)[0].tolist(),
    )
