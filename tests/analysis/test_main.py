"""The command: what it writes, what it prints, what it says of sweeps with nothing to show."""

from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from synthetic import record, result, wd_width

from analysis.__main__ import draw_all, main


def test_every_natural_figure_is_written_with_its_numbers(recorded, tmp_path, capsys):
    before = dict(matplotlib.rcParams)
    assert main(["sweep", "--tracking-uri", recorded, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out.split()
    expected = (
        "phase_diagram phases_by_budget probability_map grok_step_map success_rate reverse_scaling "
        "time_to_grok learning_curves dimension_collapse outcome_map_final_test_accuracy"
    )
    names = {f"{figure}.{kind}" for figure in expected.split() for kind in ("png", "svg", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == names | {
        "trials.csv",
        "trials.parquet",
        "interactive_map.html",
    }
    assert sorted(told) == sorted(str(path) for path in tmp_path.iterdir())
    assert len(pd.read_csv(tmp_path / "phase_diagram.csv")) == 4
    assert "unfinished sweep" in (tmp_path / "phase_diagram.svg").read_text()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.long
def test_laws_are_drawn_along_the_axes_asked_for(uri, tmp_path):
    record(uri, "laws", *(result(*pair) for pair in wd_width(seeds=2)))
    where = ["--tracking-uri", uri, "--out", str(tmp_path / "figures")]
    assert main(["laws", "critical_law", "grok_step_law", "--x", "width", "--y", "weight_decay", *where]) == 0
    names = {f"{figure}.{kind}" for figure in ("critical_law", "grok_step_law") for kind in ("png", "svg", "csv")}
    assert names < {path.name for path in (tmp_path / "figures").iterdir()}
    critical = pd.read_csv(tmp_path / "figures" / "critical_law.csv")
    assert {"boundary", "width", "position", "low", "high", "exponent", "straight", "alone"} <= set(critical)
    steps = pd.read_csv(tmp_path / "figures" / "grok_step_law.csv")
    assert steps["axis"].dropna().tolist() == ["weight_decay", "width"]
    assert "width (units)" in (tmp_path / "figures" / "grok_step_law.svg").read_text()
    assert "critical weight decay" in (tmp_path / "figures" / "critical_law.svg").read_text()


def test_one_figure_by_name_and_one_that_cannot_be(recorded, tmp_path, capsys):
    where = ["--tracking-uri", recorded, "--out", str(tmp_path)]
    assert main(["sweep", *where, "success_rate", "interactive_map"]) == 0  # names may stand after options
    assert capsys.readouterr().err == ""
    assert main(["sweep", "success_rate", "takeover", *where]) == 3
    reason = "a takeover timeline needs inner stride scores: modular multiplication or division"
    told = f"sweep: takeover cannot be drawn, because {reason}; takeover.png says so too\n"
    assert capsys.readouterr().err == told
    assert (tmp_path / "success_rate.csv").exists()
    assert "inner stride" in (tmp_path / "takeover.svg").read_text()
    assert not (tmp_path / "takeover.csv").exists()


def test_other_thresholds_leave_the_figures_as_recorded_alone(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "success_rate", "--tracking-uri", recorded]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in Path("figures/sweep").iterdir()}
    capsys.readouterr()
    assert main([*command, "--grok-threshold", "0.99", "--delay-limit", "900"]) == 0
    folder = Path("figures/sweep/grok_threshold=0.99,delay_limit=900")
    told = capsys.readouterr()
    assert {Path(line).parent for line in told.out.split()} == {folder}
    assert told.err == f"sweep: read again, into {folder}; the figures as recorded are left alone\n"
    assert {path: path.read_bytes() for path in before} == before
    assert main([*command, "--grok-threshold", "0.99", "--out", "asked"]) == 0
    assert (tmp_path / "asked" / "success_rate.png").exists()
    assert not capsys.readouterr().err


def test_an_outcome_that_no_trial_has_is_named_on_the_terminal_too(recorded, tmp_path, capsys):
    asked = ["--outcome", "betti1", "--outcome", "final_test_accuracy"]
    assert main(["sweep", "outcome_map", *asked, "--tracking-uri", recorded, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert told.startswith(
        "sweep: outcome_map_betti1 cannot be drawn, because no finished trial has a betti1 (independent loops"
    )


def test_bad_names_get_one_message(recorded, tmp_path, capsys):
    assert main(["sweep", "pie", "--tracking-uri", recorded]) == 2
    assert "figure: must be one of phase_diagram" in capsys.readouterr().err
    assert main(["nothing", "--tracking-uri", recorded]) == 2
    assert "got 'nothing'; there are Default, sweep" in capsys.readouterr().err


def test_an_empty_sweep_gets_a_figure_that_says_so(uri, tmp_path):
    record(uri, "empty")
    paths = draw_all("empty", uri, tmp_path / "figures")
    assert {p.name for p in paths} == {
        *("trials.csv", "trials.parquet", "phase_diagram.png", "phase_diagram.svg", "interactive_map.html")
    }
    assert "no finished trial yet" in (tmp_path / "figures" / "phase_diagram.svg").read_text()
