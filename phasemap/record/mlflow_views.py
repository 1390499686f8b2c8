"""How MLflow's pages show a sweep: saved views, the description, the address that opens them.

Pure text, made from names; ``writer.py`` writes it. What a view is was read off MLflow 3.17's own pages: an
experiment tag ``mlflow.sharedViewState.ID`` that holds the state its *Views* menu would save.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from phasemap import probes
from phasemap.plan.outcome import CURVES, DEFINITIONS
from phasemap.plan.phases import PHASES
from phasemap.plan.trial import FIELDS
from phasemap.probes import ALWAYS

USUAL = tuple(FIELDS["probes"].default.split("+"))
TRIALS = "trials"  # id of the view that a sweep's address opens
SHOWN = ("grok_step", "final_test_accuracy", "memorization_step", "final_train_accuracy", "steps_run")
OVERVIEW = "Overview"  # with the parallel coordinates of axes and outcomes
SECTIONS = {  # of the charts: curves that are read together
    OVERVIEW: ("test_accuracy",),
    "Learning curves": ("train_accuracy", "test_loss", "train_loss"),
    "Representation": ("intrinsic_dimension", "pca99_dimension", "participation_ratio", "weight_norm"),
    "Fourier structure": (
        "winning_stride_score",
        "inner_winning_stride_score",
        "dominant_share",
        "spectrum_frequencies",
        "dominant_frequency",
    ),
    "Activations": ("activation_sparsity", "activation_norm", "activation_deviation", "activation_largest"),
}
FURTHER, END = "Further probes", "At the end"
EVERYWHERE = ("weight_norm", "final_train_accuracy", "final_test_accuracy")  # without one of them a run is not drawn
MODE = "?workflowType=machine_learning"  # else MLflow opens its pages for language models; no tag can say it
NAME = "attributes.`Run Name`"
ORDER = "phasemap.order"  # tag of a trial: its seed, then its id, in effect a random order


def views(
    axes: Iterable[str], now: int = 0, phases: Iterable[str] = PHASES, asked: Iterable[str] = USUAL
) -> dict[str, str]:
    """Experiment tags: one saved view of all trials, one per phase, one of those that failed. ``now``: ms since 1970;
    ``asked``: the probes of the trials, which have charts.

    Any order but that of creation parts the trials from their parent, below which MLflow would fold them away. Charts
    show the first 100 runs: one seed of every cell comes before the next, and the cells of a seed come at random, so
    these cover the map. By name the seeds of a cell stand together.
    """
    listed, charts, trial = tuple(axes), sections(asked), "tags.`phasemap.kind` = 'trial'"
    listing = {TRIALS: ("All trials", trial, ORDER), "cells": ("All trials, by cell", trial, "mlflow.runName")}
    listing |= {phase: (f"Phase: {phase}", f"tags.phase = '{phase}'", ORDER) for phase in phases}
    listing["failed"] = ("Failed trials", f"{trial} and attributes.status = 'FAILED'", ORDER)
    tags = {}
    for place, (view, (name, condition, order)) in enumerate(listing.items()):
        state = json.dumps(_state(listed, charts, condition, order))
        age = now - place  # the menu lists the youngest first
        tags[f"mlflow.sharedViewState.{view}"] = json.dumps(
            {"name": name, "createdAt": age, "updatedAt": age, "state": state}
        )
    return tags


def sections(asked: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The charts' sections and their curves: those of ``SECTIONS`` that these probes follow, and one of further probes,
    which have no place there. A name that is not a built-in probe's has no chart of its own."""
    places, listed = probes.places(), {key for keys in SECTIONS.values() for key in keys}
    own = [[key for key in places.get(probe, ()) if key in CURVES] for probe in (ALWAYS, *dict.fromkeys(asked))]
    followed = set(CURVES) - set(probes.curves()) | {key for keys in own for key in keys}
    made = {name: tuple(key for key in keys if key in followed) for name, keys in SECTIONS.items()}
    made[FURTHER] = tuple(key for keys in own if not listed & set(keys) for key in keys)
    return {name: keys for name, keys in made.items() if keys}


def address(server: str, experiment: str, view: str = TRIALS, charts: bool = False) -> str:
    """Where a browser finds a view."""
    shown = "&compareRunsMode=CHART" if charts else ""
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs{MODE}&viewStateShareKey={view}{shown}"


def description(name: str, experiment: str, parent: str, named: Iterable[str] = PHASES) -> str:
    """Markdown for the experiment and the parent run: where to look, and what each metric means. Those of probes that
    must be asked for are only named: a tag of MLflow ends at 8,000 characters."""
    figures = f"#/experiments/{experiment}/runs/{parent}/artifacts/figures"
    phases = " · ".join(f"[{phase}]({address('', experiment, phase)[1:]})" for phase in named) or "none yet"
    usual = {ALWAYS, *USUAL}
    further = {key for probe, keys in probes.places().items() if probe not in usual for key in keys}
    further -= {key for probe in usual for key in probes.places()[probe]}
    definitions = "\n".join(
        f"- {'~ ' * (key in CURVES)}**{key}**: {text}" for key, text in DEFINITIONS.items() if key not in further
    )
    undefined = ", ".join(key for key in CURVES if key not in DEFINITIONS)
    return f"""**{name}**: a phase map of grokking. Each run is a trial; its parent, `{name}`, holds the figures.

- [All trials]({address("", experiment)[1:]}), [their curves]({address("", experiment, charts=True)[1:]})
- By phase (tag `phase`): {phases}
- [Interactive map]({figures}/interactive_map.html{MODE}), [phase diagram]({figures}/phase_diagram.png{MODE})

A metric that is absent did not happen. Curves, at optimizer steps, are those with a ~, and {undefined}.

{definitions}

By further probes, defined in docs/definitions.md: {", ".join(sorted(further))}.
"""


def _state(
    axes: tuple[str, ...], charts: Mapping[str, tuple[str, ...]], condition: str, order: str
) -> dict[str, object]:
    """What MLflow's pages keep of a list of runs: filter, order, columns, charts."""
    columns = ["tags.`phase`", *(f"params.`{a}`" for a in axes), *(f"metrics.`{m}`" for m in SHOWN)]
    plain = {"lineSmoothness": 0, "xAxisKey": "step", "selectedXAxisMetricKey": ""}  # a missing number smooths by 70 %
    return {
        "searchFilter": condition,
        "orderByKey": f"tags.`{order}`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [NAME, *columns],
        "columnWidths": {NAME: 290, **{f"metrics.`{m}`": 30 + 7 * len(m) for m in SHOWN}},
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": plain,
        "compareRunCharts": [
            _parallel(axes),
            *(_line(key, section) for section, keys in charts.items() for key in keys),
            *(_bar(key) for key in SHOWN),
        ],
        "compareRunSections": [_section(name) for name in (*charts, END)],
    }


def _section(name: str) -> dict[str, object]:
    whole = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False, "columns": 2}
    return {"uuid": name, "name": name, **whole}


def _line(key: str, section: str) -> dict[str, object]:
    drawn = {
        "metricKey": key,
        "selectedMetricKeys": [key],
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "displayPoints": False,
    }
    return {**_chart("LINE", key, section), **drawn}


def _bar(key: str) -> dict[str, object]:
    return {**_chart("BAR", key, END), "metricKey": key}


def _parallel(axes: tuple[str, ...]) -> dict[str, object]:
    shown = [a for a in axes if a != "seed"]
    chosen = {"selectedParams": shown, "selectedMetrics": list(EVERYWHERE), "showAllRuns": True}
    return {**_chart("PARALLEL", "parallel", OVERVIEW), **chosen}


def _chart(kind: str, name: str, section: str) -> dict[str, object]:
    return {
        "type": kind,
        "uuid": f"phasemap-{kind.lower()}-{name}",
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
