"""The whole of it on scikit-learn's digits: runs are stored, not made twice, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import fingerprint, plan
from benchmarks.accuracy.cells import best_peer, summaries, verdicts
from benchmarks.accuracy.choosing import Choices, Try, next_try
from benchmarks.accuracy.confirming import confirm
from benchmarks.accuracy.peers.torch_gradual import TorchGradual
from benchmarks.accuracy.plan import Selection, due, status, together
from benchmarks.accuracy.run import Run
from benchmarks.accuracy.store import Store
from benchmarks.accuracy.table import table
from benchmarks.accuracy.tasks import TASKS, Cell

DIGITS = TASKS["digits"]
SHORT = replace(DIGITS, cells=(Cell(0.2, 1),), chosen_at=(Cell(0.2, 1),), tries=2)
RUN = Run(
    task="digits",
    density=0.2,
    epochs=10,
    method="gumbel",
    seed=0,
    fingerprint="one",
    value=97.0,
    kept=1293,
    reached_value=97.0,
    reached_kept=1293,
    prunable=6464,
    dense=98.0,
    seconds=2.0,
    cpu_seconds=1.0,
    device="cpu",
    threads=1,
    settings={},
    versions={"torch": "2.13.0"},
    machine="a machine",
    date="2026-11-20",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("benchmarks.accuracy.dense.FOLDER", tmp_path / "dense")
    monkeypatch.setattr("benchmarks.accuracy.choosing.LOCK", tmp_path / "settings.lock")
    monkeypatch.setitem(TASKS, "digits", SHORT)
    return tmp_path


def test_runs_are_made_once_and_drawn(folder: Path) -> None:
    store = Store(folder / "runs", folder / "accuracy.json")
    choices = Choices(folder / "settings.json")
    methods = ("gumbel", "magnitude", "torch-gradual")
    selection = Selection(("digits",), methods, seeds=(0,))
    assert command.work(selection, store, choices) == 5  # two tries of the peer, three runs
    assert command.work(selection, store, choices) == 0
    assert due(selection, store.runs(), choices) == []
    command.draw(store, choices, folder, ["digits"])
    page = (folder / "accuracy.md").read_text()
    for title in ("**gumbel** (ours)", "magnitude (ours)", "torch.nn.utils.prune"):
        assert page.count(f"| 20 %, 1 epochs | {title}") == 1
    assert "1293 of 6464" in page
    assert b"torch.nn.utils.prune" in (folder / "accuracy.svg").read_bytes()
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    collected = Store(folder / "elsewhere", folder / "accuracy.json")
    assert due(selection, collected.runs(), choices) == []


def test_a_peers_runs_with_other_settings_than_the_chosen_ones_leave_the_table(folder: Path) -> None:
    store = Store(folder / "runs", folder / "accuracy.json")
    choices = Choices(folder / "settings.json")
    command.work(Selection(("digits",), ("magnitude", "torch-gradual"), seeds=(0,)), store, choices)
    better = Try({"rate": 0.5, "until": 0.7}, 100.0)
    choices.add(SHORT, "torch-gradual", SHORT.chosen_at[0], better)
    command.draw(store, choices, folder, ["digits"])
    page = (folder / "accuracy.md").read_text()
    assert "| magnitude (ours)" in page
    assert "torch.nn.utils.prune, gradual" not in page


def test_nothing_begins_after_the_limit(folder: Path) -> None:
    store = Store(folder / "runs", folder / "accuracy.json")
    selection = Selection(("digits",), ("magnitude",), seeds=(0, 1))
    assert command.work(selection, store, Choices(folder / "settings.json"), until=0.0) == 0
    assert status(due(selection, store.runs(), Choices(folder / "s.json")), []) == [
        "digits: 2 runs left, about 0 minutes"
    ]


def test_a_changed_rule_makes_our_runs_due_again_and_not_the_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, peer = (
        fingerprint.of_ours("gumbel", DIGITS),
        fingerprint.of_peer("torch-gradual", DIGITS, {"rate": 1}),
    )
    monkeypatch.setattr(fingerprint, "engine_digest", lambda: "another rule")
    assert fingerprint.of_ours("gumbel", DIGITS) != ours
    assert fingerprint.of_peer("torch-gradual", DIGITS, {"rate": 1}) == peer
    assert fingerprint.of_peer("torch-gradual", DIGITS, {"rate": 2}) != peer


def test_comments_change_no_rule(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.py" for name in "abc")
    first.write_text('"""One."""\nX = 1\n')
    second.write_text('"""Two."""\n# more\nX = 1\n')
    third.write_text("X = 2\n")
    assert fingerprint._code(first) == fingerprint._code(second) != fingerprint._code(third)


def test_half_written_runs_are_not_seen(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path / "accuracy.json")
    store.add(RUN)
    (tmp_path / ".half.json.1.tmp").write_text('{"task": "dig')
    assert list(store.runs().values()) == [RUN]


def test_the_search_goes_on_beyond_an_edge_and_then_tries_the_rest() -> None:
    tried: list[Try] = []
    while (settings := next_try(TorchGradual.first_try, TorchGradual.others, tried, DIGITS)) is not None:
        tried.append(Try(settings, 90.0 + float(settings["rate"]) - abs(float(settings["until"]) - 0.5)))
    rates = [part.settings["rate"] for part in tried]
    assert rates == [0.001, 0.000333, 0.003, 0.009, 0.027, 0.027, 0.027]
    assert [part.settings["until"] for part in tried[4:]] == [0.7, 0.5, 0.85]


def test_peers_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        plan, "missing", lambda method: "not installed" if method.startswith("nncf") else None
    )
    found = due(Selection(("digits",), seeds=(0,)), {}, Choices(tmp_path / "none.json"))
    assert {run.method for run in found} == {"gumbel", "magnitude", "torch-gradual", "first-paper"}


def test_one_training_is_planned_for_all_densities_of_the_first_paper(tmp_path: Path) -> None:
    choices = Choices(tmp_path / "settings.json")
    settings: dict[str, float | str] = {"rate": 1e-2, "aim": "zero"}
    runs = [
        replace(run, settings=settings) for run in due(Selection(("digits",), ("first-paper",)), {}, choices)
    ]
    assert len(runs) == 6
    assert [run.cell.density for run in together(runs[0], runs)] == [0.2, 0.05]
    assert {run.seed for run in together(runs[0], runs)} == {0}


def test_the_best_peer_and_its_spread_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [
        replace(RUN, method="torch-gradual", seed=seed, value=value)
        for seed, value in enumerate((97.2, 97.4, 97.6))
    ]
    ours = [replace(RUN, seed=seed, value=97.25) for seed in range(3)]
    found = summaries(DIGITS, DIGITS.cells[0], [*peers, *ours], "cpu")
    best = best_peer(found, DIGITS)
    assert best is not None
    assert (best.mean, best.deviation) == (pytest.approx(97.4), pytest.approx(0.2))
    assert [part.met for part in verdicts(DIGITS, DIGITS.cells[0], found, "cpu")] == [True]
    worse = [replace(run, value=97.1) for run in ours]
    found = summaries(DIGITS, DIGITS.cells[0], [*peers, *worse], "cpu")
    assert [part.met for part in verdicts(DIGITS, DIGITS.cells[0], found, "cpu")] == [False]


def test_targets_and_published_figures_are_in_the_table() -> None:
    lenet = TASKS["lenet300"]
    runs = [
        replace(RUN, task="lenet300", density=0.01, epochs=30, value=98.25, seed=seed) for seed in range(3)
    ]
    page = table([lenet], runs)
    assert "at least 98.2: met" in page
    assert "| 1 % | *published: LC* | *96.8* |" in page
    missed = table([lenet], [replace(run, value=98.1) for run in runs])
    assert "at least 98.2: **not met**" in missed


def test_a_verdict_beside_peers_says_how_many_have_run_and_one_seed_has_no_spread() -> None:
    ours = replace(RUN, task="resnet20", density=0.05, epochs=5, value=87.0)
    peer = replace(ours, method="torch-gradual", value=85.5)
    page = table([TASKS["resnet20"]], [ours, peer])
    assert "1 over every peer: met, 1 of 4 peers run |" in page
    assert "| 87.00 |" in page
    two = table([TASKS["resnet20"]], [ours, replace(ours, seed=1), peer])
    assert "| 87.00 ± 0.00 |" in two


def test_an_error_is_better_when_lower() -> None:
    housing = TASKS["housing"]
    base = replace(RUN, task="housing", epochs=30)
    runs = [
        replace(base, value=60.0),
        replace(base, method="torch-gradual", value=55.0),
        replace(base, method="first-paper", value=70.0),
    ]
    found = summaries(housing, housing.cells[0], runs, "cpu")
    best = best_peer(found, housing)
    assert best is not None
    assert best.method == "torch-gradual"
    assert [part.met for part in verdicts(housing, housing.cells[0], found, "cpu")] == [False]


def dense_of_run(name: str, seed: int) -> float:
    return RUN.dense


def test_code_that_trains_the_same_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = fingerprint.of_ours("gumbel", DIGITS)
    old = [replace(RUN, density=density, seed=seed) for density in (0.2, 0.05) for seed in (0, 1)]
    made: list[tuple[float, int]] = []

    def again(run: Run) -> float:
        made.append((run.density, run.seed))
        return run.value

    found = list(confirm(old, ("digits",), again, dense_of_run))
    assert made == [(0.2, 0), (0.05, 0)]  # one of each cell, not all four
    stand = [run for part in found for run in part.confirmed]
    assert {run.fingerprint for run in stand} == {now}
    assert {run.measured_as for run in stand} == {"one"}
    assert [(run.density, run.seed) for run in stand] == [(run.density, run.seed) for run in old]
    assert list(confirm([*old, *stand], ("digits",), again, dense_of_run)) == []
    monkeypatch.setattr(fingerprint, "engine_digest", lambda: "once more")
    later = [run for part in confirm(stand, ("digits",), again, dense_of_run) for run in part.confirmed]
    assert {run.measured_as for run in later} == {"one"}


def test_a_cell_that_trains_otherwise_keeps_nothing_and_the_others_stand() -> None:
    old = [replace(RUN, density=density) for density in (0.2, 0.05)]

    def again(run: Run) -> float:
        return run.value + (0.0001 if run.density == 0.05 else 0.0)

    same, other = confirm(old, ("digits",), again, dense_of_run)
    assert [run.density for run in same.confirmed] == [0.2]
    assert (other.tried.density, other.value, other.confirmed) == (0.05, 97.0001, ())


def test_a_run_from_another_dense_net_neither_tells_nor_stands() -> None:
    old = [replace(RUN, seed=0, dense=97.5), replace(RUN, seed=1)]
    (found,) = confirm(old, ("digits",), lambda run: run.value, dense_of_run)
    assert found.tried.seed == 1
    assert [run.seed for run in found.confirmed] == [1]


def test_confirming_makes_real_runs_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(folder / "runs", folder / "accuracy.json")
    selection = Selection(("digits",), ("magnitude",), seeds=(0,))
    command.work(selection, store, Choices(folder / "settings.json"))
    monkeypatch.setattr(fingerprint, "engine_digest", lambda: "written otherwise")
    assert len(due(selection, store.runs(), Choices(folder / "settings.json"))) == 1
    command.take_over(selection, store)
    assert due(selection, store.runs(), Choices(folder / "settings.json")) == []


def test_runs_from_other_dense_nets_are_marked() -> None:
    now = fingerprint.of_ours("gumbel", DIGITS)
    same = [replace(RUN, fingerprint=now, seed=seed) for seed in range(3)]
    peers = [replace(run, method="torch-gradual", fingerprint="peer") for run in same]
    apart = [replace(run, method="nncf-rb", fingerprint="peer", dense=97.9) for run in same]
    page = table([DIGITS], [*same, *peers, *apart])
    (line,) = [line for line in page.splitlines() if "(other dense nets)" in line]
    assert "NNCF" in line
    assert "Dense: 98.00, 98.00, 98.00 % (seeds 0, 1, 2)" in page
