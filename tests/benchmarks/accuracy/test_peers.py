"""Each peer, on a small net that it really trains."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from benchmarks.accuracy.dense import DenseNet, dense_net
from benchmarks.accuracy.loop import measure
from benchmarks.accuracy.nets import ResNet20, WordTransformer, prunable
from benchmarks.accuracy.order import batches
from benchmarks.accuracy.peers import PEERS, missing
from benchmarks.accuracy.peers.first_paper import Gate
from benchmarks.accuracy.peers.torch_gradual import TorchGradual
from benchmarks.accuracy.rows import Rows, load_rows
from benchmarks.accuracy.run import run_peer
from benchmarks.accuracy.tasks import TASKS
from benchmarks.accuracy.words import LENGTH, encode_words, vocabulary
from prune_engine.training.batches import Batches

DIGITS = TASKS["digits"]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return load_rows(DIGITS)


@pytest.fixture(scope="module")
def dense(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DenseNet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.accuracy.dense.FOLDER", tmp_path_factory.mktemp("dense"))
        yield dense_net(DIGITS, rows, 0)


def installed(method: str) -> None:
    if why := missing(method):
        pytest.skip(why)


@pytest.mark.parametrize("method", PEERS)
def test_it_keeps_at_most_what_was_asked_for_and_leaves_the_dense_net_alone(
    method: str, rows: Rows, dense: DenseNet
) -> None:
    installed(method)
    before = copy.deepcopy(dense.net.state_dict())
    outcome = run_peer(method, DIGITS, rows, dense, [0.2], 2, 0, PEERS[method].first_try)[0]
    assert outcome.kept == min(round(0.2 * outcome.prunable), outcome.reached_kept) > 0
    assert outcome.prunable == 64 * 64 + 64 * 32 + 32 * 10
    assert all(torch.equal(value, before[name]) for name, value in dense.net.state_dict().items())


@pytest.mark.parametrize("method", ["torch-gradual", "nncf-magnitude"])
def test_magnitude_pruning_learns(method: str, rows: Rows, dense: DenseNet) -> None:
    installed(method)
    settings = {**PEERS[method].first_try, "rate": 1e-2}
    assert run_peer(method, DIGITS, rows, dense, [0.2], 5, 0, settings)[0].value > 93.0


def test_the_gradual_schedule_ends_at_exactly_the_density(dense: DenseNet, rows: Rows) -> None:
    net = copy.deepcopy(dense.net)
    peer = TorchGradual(net, rows.example(), 0.1, {"rate": 1e-3, "until": 0.5}, 40)
    kept = []
    for step in range(40):
        peer.before_step(step, 40)
        kept.append(sum(int(mask.sum()) for mask in peer.ending().masks.values()))
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 6464
    assert kept[19] > 646
    assert set(kept[20:]) == {646}


def test_its_ending_is_the_net_that_it_trained(dense: DenseNet, rows: Rows) -> None:
    peer = TorchGradual(copy.deepcopy(dense.net), rows.example(), 0.5, {"rate": 1e-3, "until": 0.5}, 2)
    peer.before_step(1, 2)
    ending = peer.ending()
    plain = copy.deepcopy(dense.net)
    plain.load_state_dict(ending.state)
    with torch.no_grad():
        for name, layer in prunable(plain).items():
            layer.get_parameter("weight").mul_(ending.masks[name])
    assert measure(plain, rows, DIGITS) == measure(peer.net, rows, DIGITS)


def test_one_training_serves_every_density_where_the_peer_has_no_use_for_it(
    dense: DenseNet, rows: Rows
) -> None:
    settings = {"rate": 1e-2, "aim": "zero"}
    assert not PEERS["first-paper"].follows_density(settings)
    two = run_peer("first-paper", DIGITS, rows, dense, [0.2, 0.05], 1, 0, settings)
    alone = run_peer("first-paper", DIGITS, rows, dense, [0.05], 1, 0, settings)
    assert two[1].value == alone[0].value
    assert two[1].kept < two[0].kept


def test_a_gate_is_open_as_often_as_two_gumbel_logits_say() -> None:
    """P(keep) of the first paper's sample is the softmax of its two logits, at any temperature."""
    torch.manual_seed(0)
    gate = Gate(torch.zeros(200_000))
    torch.nn.init.constant_(gate.logits, 1.0)
    hard = gate.sample(3.0)
    assert set(hard.detach().round(decimals=5).tolist()) == {0.0, 1.0}
    assert float(hard.detach().mean()) == pytest.approx(float(torch.sigmoid(torch.tensor(1.0))), abs=0.005)


def test_all_methods_take_the_batches_of_our_engine() -> None:
    cpu = torch.device("cpu")
    ours, theirs = Batches(100, 32, 7, cpu), batches(100, 32, 7, cpu)
    pairs: list[tuple[Tensor, Tensor]] = list(itertools.islice(zip(ours, theirs, strict=False), 10))
    assert all(torch.equal(first, second) for first, second in pairs)


def test_resnet20_with_its_batch_norm_is_the_function_of_the_given_file(shared_models: Path) -> None:
    folder = shared_models / "cifar10_resnet"
    net = ResNet20().eval()
    net.load_state_dict(torch.jit.load(str(folder / "resnet20.torchscript.pt")).state_dict())
    assert sum(layer.get_parameter("weight").numel() for layer in prunable(net).values()) == 268_336
    session = onnxruntime.InferenceSession(folder / "resnet20.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(8, 3, 32, 32)
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(net(x), torch.from_numpy(got), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in PEERS if not missing(name)])
def test_a_peer_leaves_the_statistics_of_batch_norm_too(name: str) -> None:
    net = ResNet20()
    peer = PEERS[name](copy.deepcopy(net), torch.zeros(2, 3, 32, 32), 0.5, PEERS[name].first_try, 10)
    peer.net(torch.randn(4, 3, 32, 32))
    state = peer.ending().state
    assert set(state) == set(net.state_dict())
    assert not torch.equal(state["bn1.running_mean"], net.bn1.get_buffer("running_mean"))
    net.load_state_dict(state)


def test_the_transformer_does_not_see_padding() -> None:
    net = WordTransformer(50).eval()
    ids = torch.zeros((1, LENGTH), dtype=torch.int64)
    ids[0, :5] = torch.arange(2, 7)
    before = net(ids)
    with torch.no_grad():
        net.words.weight[0] += 1.0
        net.places[5:] += 1.0
    assert torch.allclose(net(ids), before, atol=1e-6)


def test_words_come_from_the_training_texts() -> None:
    words = vocabulary(["a b a", "b a c"])
    assert words == {"a": 2, "b": 3}
    assert encode_words(np.array(["b c a"]), words)[0, :4].tolist() == [3, 1, 2, 0]
