"""What the pages are told: views as MLflow's own menu saves them, links, and the meaning of every metric."""

from __future__ import annotations

import json

from phasemap import probes
from phasemap.plan.outcome import CURVES, DEFINITIONS
from phasemap.plan.phases import PHASES
from phasemap.plan.trial import FIELDS
from phasemap.record.mlflow_views import address, description, sections, views

VIEWS = views(("weight_decay", "width", "seed"), now=1_000)


def test_a_view_is_an_envelope_that_the_pages_accept():
    for key, value in VIEWS.items():
        told = json.loads(value)
        assert key.startswith("mlflow.sharedViewState.")
        assert isinstance(told["name"], str)
        assert isinstance(told["createdAt"], int)
        assert isinstance(told["state"], str)


def test_each_phase_has_its_view_and_all_trials_come_first():
    first, *others = sorted(VIEWS, key=lambda key: -json.loads(VIEWS[key])["createdAt"])
    assert first == "mlflow.sharedViewState.trials"
    assert {f"mlflow.sharedViewState.{phase}" for phase in PHASES} <= set(others)
    state = json.loads(json.loads(VIEWS["mlflow.sharedViewState.grokking"])["state"])
    assert state["searchFilter"] == "tags.phase = 'grokking'"


def test_columns_and_charts_are_of_fields_outcomes_and_curves_that_exist():
    state = json.loads(json.loads(VIEWS["mlflow.sharedViewState.trials"])["state"])
    known = {"tags.`phase`", *(f"params.`{name}`" for name in FIELDS), *(f"metrics.`{name}`" for name in DEFINITIONS)}
    assert set(state["selectedColumns"]) <= known
    assert [c for c in state["selectedColumns"] if c.startswith("params")][:2] == [
        "params.`weight_decay`",
        "params.`width`",
    ]
    lines = [chart for chart in state["compareRunCharts"] if chart["type"] == "LINE"]
    assert {chart["metricKey"] for chart in lines} <= set(CURVES)
    assert not [chart for chart in lines if chart["lineSmoothness"]]
    assert state["globalLineChartConfig"]["lineSmoothness"] == 0
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    (parallel,) = (chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL")
    assert parallel["selectedParams"] == ["weight_decay", "width"]


def test_each_curve_of_the_usual_probes_or_one_like_it_has_a_chart_and_no_section_is_empty():
    told = sections(("dimension", "stride"))
    assert "Activations" not in told
    assert told["Fourier structure"] == ("winning_stride_score", "inner_winning_stride_score")
    assert told["Representation"][-1] == "weight_norm"  # of the probe nobody may leave out
    assert "Further probes" not in told


def test_curves_of_a_further_probe_have_a_section_of_their_own():
    told = sections(("sharpness", "twonn", "energy_rank", "homology"))
    assert told["Further probes"] == ("sharpness", "twonn_dimension")
    state = json.loads(json.loads(views(("seed",), asked=("sharpness",))["mlflow.sharedViewState.trials"])["state"])
    charts = {
        chart["metricKey"]: chart["metricSectionId"] for chart in state["compareRunCharts"] if "metricKey" in chart
    }
    assert charts["sharpness"] == "Further probes"
    names = [section["name"] for section in state["compareRunSections"]]
    assert names == ["Overview", "Learning curves", "Representation", "Further probes", "At the end"]


def test_a_view_of_many_axes_and_of_every_probe_fits_a_tag_of_an_experiment():
    axes = ("weight_decay", "width", "depth", "data_fraction", "learning_rate", "batch_size", "seed")
    assert max(map(len, views(axes, asked=probes.names()).values())) < 20_000  # MLflow 3.17's limit


def test_the_description_links_to_the_map_and_explains_the_usual_metrics_and_names_the_others():
    text = description("wd_width", "7", "abc")
    assert "#/experiments/7/runs/abc/artifacts/figures/interactive_map.html" in text
    explained = [name for name, definition in DEFINITIONS.items() if f"**{name}**: {definition}" in text]
    assert {"grok_step", "weight_norm", "winning_stride"} <= set(explained)
    others = text.rpartition("docs/definitions.md: ")[2].rstrip().rstrip(".").split(", ")
    assert set(others) >= {"betti0", "restricted_loss"}
    assert set(DEFINITIONS) <= {*explained, *others}
    assert not set(explained) & set(others)
    assert len(text) < 8_000  # a run's tag is cut there


def test_an_address_opens_the_pages_for_training():
    told = address("http://tracking.lab:5000/", "7")
    assert told == (
        "http://tracking.lab:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=trials"
    )
