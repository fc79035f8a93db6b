"""What both of torch's exporters write trains here: same outputs, a gradient everywhere, exact write-back."""

from __future__ import annotations

import pytest
import torch

from prune_engine.formats import import_onnx, structural_differences, write_back
from tests.prune_engine.formats.running import distance, run
from tests.prune_engine.formats.zoo import NETS, build, export, inputs

TOLERANCE = 1e-4
CONSTANTS = {"cls", "pos", "places.weight"}  # tables that are added, not multiplied with
LEGACY_OPSETS = {
    "mlp": 9,
    "lenet": 10,
    "vgg": 11,
    "resnet": 12,
    "resnet_option_a": 10,
    "squeezenet": 9,
    "mobilenet_v2": 9,
}
DYNAMO_OPSETS = {"mlp": 18, "resnet_option_a": 19, "vit": 21, "convnext": 21, "text_encoder": 18}


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", NETS)
def test_an_export_trains_and_goes_back(name: str, exporter: str) -> None:
    net, opsets, newest = (
        build(name),
        LEGACY_OPSETS if exporter == "legacy" else DYNAMO_OPSETS,
        17 if exporter == "legacy" else 20,
    )
    proto = export(net, inputs(name, 2), exporter, opsets.get(name, newest))
    module = import_onnx(proto).eval()
    x = inputs(name, 5, seed=1)

    assert distance(module(x), run(proto, x)) < TOLERANCE
    assert write_back(proto, module.state_values()).SerializeToString() == proto.SerializeToString()
    matrices = [p for n, p in net.named_parameters() if p.dim() > 1 and n not in CONSTANTS]
    prunable = [module.weights[weight.name] for weight in module.prunable]
    assert sum(w.numel() for w in prunable) == sum(p.numel() for p in matrices)

    module.train()
    torch.stack([(y * y).sum() for y in module(x)]).sum().backward()
    for weight in module.prunable:
        gradient = module.weights[weight.name].grad
        assert gradient is not None, weight.name
        assert gradient.isfinite().all(), weight.name
        assert gradient.abs().max() > 0, weight.name
        assert weight.shape == tuple(gradient.shape)

    with torch.no_grad():
        for parameter in module.weights.values():
            parameter.sub_(0.01 * torch.randn_like(parameter))
    changed = write_back(proto, module.state_values())
    assert structural_differences(proto, changed) == []
    assert distance(module.eval()(x), run(changed, x)) < TOLERANCE


@pytest.mark.parametrize("opset", [9, 11, 13, 14, 16, 17])
def test_the_legacy_exporter_without_folding_keeps_names_and_statistics(opset: int) -> None:
    net = build("resnet")
    proto = export(net, inputs("resnet", 2), opset=opset, do_constant_folding=False)
    module = import_onnx(proto)

    trained = {name for name, _ in net.named_parameters()}
    statistics = {name for name, _ in net.named_buffers() if "running" in name}
    assert set(module.weights) == trained
    assert set(module.state_values()) == trained | statistics
    assert {p.name for p in module.prunable} == {name for name, p in net.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["resnet_option_a", "vit", "mixer", "text_encoder"])
def test_a_batch_size_that_the_exporter_wrote_down_is_free_in_training(
    name: str, batch: int, exporter: str
) -> None:
    net = build(name)
    proto = export(net, inputs(name, batch), exporter, 17 if exporter == "legacy" else 18, fixed_batch=True)
    module = import_onnx(proto).eval()
    for rows in (batch, 7):
        x = inputs(name, rows, seed=rows)
        with torch.no_grad():
            torch.testing.assert_close(module(x)[0], net(x), rtol=1e-4, atol=1e-5)


def test_training_batchnorm_matches_torch() -> None:
    net, x = build("vgg"), inputs("vgg", 6)
    module = import_onnx(export(net, x, do_constant_folding=False, training=torch.onnx.TrainingMode.EVAL))
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    torch.testing.assert_close(module.train()(x)[0], net.train()(x), rtol=1e-4, atol=1e-5)
    values = module.state_values()
    for name, buffer in net.named_buffers():
        if "running" in name:
            torch.testing.assert_close(torch.from_numpy(values[name]), buffer, rtol=1e-4, atol=1e-5)
