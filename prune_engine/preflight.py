"""What a job looks at before it begins: weights that cannot be trained, and what its user should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx
import torch

from prune_engine.data.running import fixed_batch
from prune_engine.errors import WeightsNotFiniteError
from prune_engine.formats import OnnxModule, SourceModel, import_onnx, input_infos
from prune_engine.formats.fresh import FreshValues
from prune_engine.spec import PruneSpec
from prune_engine.typography import count

MANY_CONVOLUTIONS = 3
ZEROS_WORTH_A_WORD = 0.01
_SHOWN = 5
_NARROW = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def importable(source: SourceModel) -> OnnxModule:
    """The model in torch, with weights that can be trained.

    Raises:
        ModelError: see `import_onnx` and `require_finite_weights`.
    """
    module = import_onnx(source.proto)
    require_finite_weights(module)
    return module


def require_finite_weights(module: OnnxModule) -> None:
    """Refuse NaN and infinity in what would be trained.

    Raises:
        WeightsNotFiniteError: names the weights and how many of their values it are.
    """
    bad = {
        name: wrong
        for name, weight in module.weights.items()
        if (wrong := weight.numel() - int(torch.isfinite(weight.detach()).sum()))
    }
    if bad:
        listed = ", ".join(f"'{name}' ({wrong:,})" for name, wrong in list(bad.items())[:_SHOWN])
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise WeightsNotFiniteError(
            f"The model has weights that are NaN or infinite: {listed}{more}. Its training has diverged, or "
            "the export overflowed (float16?); send an earlier checkpoint, or export in float32."
        )


def model_warnings(source: SourceModel, module: OnnxModule) -> list[str]:
    """What is worth knowing of a model that can be pruned, one sentence each; the source's own included."""
    return [*source.warnings, *_about_graph(source.proto), *_about_weights(source.proto, module)]


def start_warnings(spec: PruneSpec, module: OnnxModule, fresh: FreshValues | None) -> list[str]:
    """What is worth knowing of the values that training starts from, and of those that it leaves alone."""
    said = []
    if fresh is not None:
        said.append(
            f"init=random: training starts from fresh weights (seed {spec.seed}), not from those of the "
            "file; what is called dense is the file as it was sent."
        )
        if fresh.kept:
            names = ", ".join(f"'{name}'" for name in fresh.kept[:_SHOWN])
            more = f" and {len(fresh.kept) - _SHOWN} more" if len(fresh.kept) > _SHOWN else ""
            said.append(f"init=random: no fresh values are known for {names}{more}; they start as they came.")
    elif not spec.train_weights and set(module.state_values()) - set(module.weights):
        said.append(
            "train_weights=false: BatchNormalization keeps its running statistics too, those of the "
            "dense network."
        )
    return said


def _about_graph(proto: onnx.ModelProto) -> Iterator[str]:
    operators = Counter(node.op_type for node in proto.graph.node)
    normalised = any(name.endswith("Normalization") for name in operators)
    if operators["Conv"] >= MANY_CONVOLUTIONS and not normalised:
        yield (
            f"{operators['Conv']} convolutions and no BatchNormalization: it was probably folded into them "
            "by the export. The model keeps more of its accuracy when it is exported with it: "
            "torch.onnx.export(..., training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)."
        )
    fixed = fixed_batch(input_infos(proto))
    if fixed is not None:
        yield (
            f"The graph names a batch of {fixed} row{'s' if fixed != 1 else ''}; it is trained at other "
            "sizes where it runs at them. Export it with a dynamic first axis, so that it can be used so too."
        )


def _about_weights(proto: onnx.ModelProto, module: OnnxModule) -> Iterator[str]:
    for weight in module.prunable:
        if len(weight.nodes) > 1:
            names = ", ".join(weight.nodes[:_SHOWN]) + (", ..." if len(weight.nodes) > _SHOWN else "")
            yield f"'{weight.name}' is shared by {len(weight.nodes)} nodes ({names}): one mask for them all."
    weights = [module.weights[weight.name].detach() for weight in module.prunable]
    total = sum(weight.numel() for weight in weights)
    zeros = total - sum(int(weight.count_nonzero()) for weight in weights)
    if zeros > ZEROS_WORTH_A_WORD * total:
        yield (
            f"{100 * zeros / total:.3g} % of the prunable weights ({count(zeros)}) are zero already; the "
            "density counts all of them."
        )
    prunable = {weight.name for weight in module.prunable}
    narrow = [t.name for t in proto.graph.initializer if t.name in prunable and t.data_type in _NARROW]
    if narrow:
        yield (
            f"{len(narrow)} weights, such as '{narrow[0]}', are in half precision: they are trained in "
            "float32 and written back in their own type."
        )
