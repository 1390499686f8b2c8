"""The report and its figures."""

import numpy as np
from synthetic import frame, record, result, success

from analysis import findings, replicate
from analysis.__main__ import main
from analysis.claims import CLAIMS


def test_a_value_beyond_the_scale_of_the_overview_has_a_mark():
    table = frame(success(20, 30) + success(20, 30, task="modular_multiplication"))
    summary = findings.summarize({"seeds_success_rate": table.assign(grok_step=90_000.0)})
    texts = [text.get_text() for text in replicate.overview(summary).axes[0].texts]
    assert any(text.startswith("at ") for text in texts)


def test_the_page_says_how_many_verdicts_chance_may_turn():
    summary = findings.summarize({"seeds_success_rate": frame(success(29, 30))})
    decided = sum(f.verdict in ("replicates", "does not") and not f.claim.fact for f in summary.findings)
    assert decided > 0
    assert f"Of {decided} verdicts by 95 % intervals up to {decided / 20:.1f} are" in replicate.report(summary)


def test_the_report_opens_with_what_holds_and_what_does_not_and_what_nobody_knows():
    page = replicate.report(findings.summarize({"seeds_success_rate": frame(success(29, 30, width=128))}))
    opening = page.split("![")[0]
    assert (
        "**Replicates.** Addition: median step at which test accuracy reaches 0.9 (published: 8,000 to 10,000"
        in opening
    )
    assert "**Does not replicate.** Addition: two thirds of the seeds" in opening
    assert "**Not measured** (" in opening
    assert len(opening.strip().splitlines()) <= 4 + 10


def test_published_values_stand_in_the_figures():
    summary = findings.summarize({"seeds_success_rate": frame(success(20, 30))})
    finding = next(f for f in summary.findings if f.claim.name == "grok_step_addition")
    drawn = [line for line in replicate.figure(finding).axes[0].lines if line.get_marker() == "D"]
    assert sorted(np.asarray(drawn[0].get_xdata())) == [8_000, 9_000, 9_000, 9_000, 10_000]


def test_the_command_writes_report_table_and_figures(uri, tmp_path, capsys):
    record(uri, "seeds_success_rate", *(result(*pair) for pair in success(5, 6)))
    assert main(["replicate", "--tracking-uri", uri, "--out", str(tmp_path / "docs")]) == 0
    report = (tmp_path / "docs" / "replication.md").read_text()
    claims, _, left = report.partition("## What is not measured yet")
    assert all(claims.count(f"\n| {claim.claim} |") == 1 for claim in CLAIMS)
    assert "| `phasemap sweep search_spaces/seeds_takeover.py` | 32 of 32 | 32,000,000 | " in left
    assert "0.83 [0.44, 0.97]" in report
    for name in ("overview.png", "ends_high_addition.png", "replication.csv", "trials_seeds_success_rate.csv"):
        assert (tmp_path / "docs" / "replication" / name).stat().st_size > 500
    assert "replication/ends_high_addition.png" in report
    assert str(tmp_path / "docs" / "replication.md") in capsys.readouterr().out


def test_the_report_takes_no_figure_and_no_threshold(uri, tmp_path, capsys):
    words = ["replicate", "phase_diagram", "--grok-threshold", "0.95", "--x", "width", "--tracking-uri", uri]
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "got phase_diagram, --grok-threshold, --x; leave it out" in capsys.readouterr().err


def test_a_store_without_such_trials_says_so(recorded, tmp_path):
    paths = replicate.write(tmp_path, recorded)
    assert [p.name for p in paths] == ["replication.md", "replication.csv", "overview.png"]
    assert "| At the published settings | 0 | 0 | 0 | " in paths[0].read_text()
