"""Dashboard and alerts speak of figures that exist; every alert has a section that says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from service.metrics import Metrics
from tests.deploy.files import ROOT

DASHBOARD = json.loads((ROOT / "deploy/grafana/prunery.json").read_text())
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PROMETHEUS_OWN = {"up"}


def figures() -> set[str]:
    """What /metrics names, with the endings that its kinds give."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().render(None).decode(), re.MULTILINE):
        endings = {"histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
        found |= {name + ending for ending in endings}
    return found


def named(expression: str) -> set[str]:
    """The figures in an expression: words before a selector."""
    return set(re.findall(r"([a-z_][a-z0-9_]*)\s*\{", expression))


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_every_figure_of_the_dashboard_exists(panel: dict[str, Any]) -> None:
    asked = set().union(*(named(target["expr"]) for target in panel["targets"]))
    assert asked
    assert asked - figures() - PROMETHEUS_OWN == set()


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_every_figure_of_an_alert_exists_and_somebody_knows_what_to_do(alert: dict[str, Any]) -> None:
    asked = named(alert["expr"])
    assert asked
    assert asked - figures() - PROMETHEUS_OWN == set()
    assert alert["annotations"]["runbook"] == f"docs/operating.md#{alert['alert'].lower()}"
    page = (ROOT / "docs/operating.md").read_text()
    assert re.search(rf"^#+ {alert['alert']}$", page, re.MULTILINE)


def test_the_figures_of_jobs_are_never_summed_over_apis() -> None:
    """Every API shows the same ones."""
    shared = (
        "prunery_job",
        "prunery_queue",
        "prunery_webhook",
        "prunery_workers",
        "prunery_leases",
        "prunery_checkpoints",
    )
    for expression in [t["expr"] for panel in PANELS for t in panel["targets"]] + [a["expr"] for a in ALERTS]:
        for summed in re.findall(r"sum[^(]*(?:\([^)]*\) *)?\((.*)", expression):
            own = ("prunery_jobs_refused", "prunery_jobs_submitted")
            assert not [n for n in named(summed) if n.startswith(shared) and not n.startswith(own)], (
                expression
            )


def test_panels_do_not_overlap_and_have_a_word_of_explanation() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


def test_what_prometheus_is_told_names_the_job_that_they_all_ask_for() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == ["prunery"]
