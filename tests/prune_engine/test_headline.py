from prune_engine.headline import comparison, fewer, metric_change, sentences
from prune_engine.typography import NOT_MEASURED, THIN
from tests.prune_engine.sample_report import sample_report


def test_the_first_sentences_say_what_was_reached_and_what_it_cost() -> None:
    said = " ".join(sentences(sample_report()))
    assert (
        f"26{THIN}834 of 268{THIN}336 prunable weights are left: density 0.1 as asked, to the weight." in said
    )
    assert f"91.25{THIN}% before, 90.61{THIN}% after (−0.64 points), on 10{THIN}000 held-out rows" in said


def test_a_density_that_was_missed_is_not_called_exact() -> None:
    report = sample_report()
    missed = report.model_copy(update={"density": report.density.model_copy(update={"kept": 26_900})})
    assert "to the weight" not in sentences(missed)[0]
    assert "asked for: 0.1" in sentences(missed)[0]


def test_few_held_out_rows_are_called_coarse() -> None:
    report = sample_report()
    pruned = report.quality.pruned.model_copy(update={"rows": 50})
    few = report.model_copy(update={"quality": report.quality.model_copy(update={"pruned": pruned})})
    assert "one row more or less is 2.00 percentage points" in sentences(few)[-1]


def test_errors_change_relative_to_the_dense_model() -> None:
    assert metric_change(sample_report(metric="mae")) == f"+3.0{THIN}%"
    assert metric_change(sample_report(metric="accuracy")) == "−0.64 points"


def test_a_factor_only_where_it_says_something() -> None:
    assert fewer(100, 10, "smaller") == "10.0 times smaller"
    assert fewer(100, 100, "smaller") == "unchanged"
    assert fewer(100, 120, "smaller") == f"+20.0{THIN}%"
    assert fewer(0, 0, "smaller") == ""


def test_the_comparison_starts_with_density_and_quality_and_ends_with_latency() -> None:
    names = [line.name for line in comparison(sample_report())]
    assert names == ["density", "accuracy", "loss", "file, gzip", "file", "multiply-adds", "latency"]


def test_what_was_not_measured_says_so() -> None:
    lines = {line.name: line for line in comparison(sample_report(bare=True))}
    assert lines["multiply-adds"].pruned == lines["latency"].pruned == NOT_MEASURED
    assert lines["multiply-adds"].change == lines["latency"].change == ""
