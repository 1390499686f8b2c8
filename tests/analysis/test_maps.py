"""Probability map, boundary positions and the interactive page against known answers."""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from synthetic import BASE, curves, frame, made

from analysis import boundary_position, caption, interactive, probability_map, style
from analysis.statistics import grok_time, wilson
from phasemap.plan.outcome import Outcome
from phasemap.record.reader import Sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = shlex.split(
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=2000 --dump-dom"
)


def threshold(decay, width, seed):
    """Groks above weight decay 0.5 * 128 / width, never below; seeds disagree a little around it."""
    noise = np.random.default_rng([seed, width, int(1000 * decay)]).normal(0, 0.25)
    won = np.log2(decay * width / 64) + noise > 0
    told = {"phase": "grokking", "grok_step": 1500} if won else {"phase": "memorization"}
    trial = BASE.replace(weight_decay=decay, width=width, seed=seed)
    return trial, Outcome(ending="budget", steps_run=3000, final_test_accuracy=float(won), **told)


@pytest.fixture(scope="module")
def table():
    decays = (0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2)
    return frame(threshold(d, w, s) for d in decays for w in (64, 128, 256) for s in range(4))


def test_the_boundary_position_is_found_at_each_value_of_the_other_axis(table):
    summary = boundary_position.summarize(table, "weight_decay", "width")
    found = summary.table
    assert found.boundary.tolist() == ["start"] * 3
    truth = np.array([1.0, 0.5, 0.25])
    assert found.position.to_numpy() == pytest.approx(truth, rel=0.3)
    assert ((found.low < truth) & (truth < found.high) & (found.high < 2 * found.low)).all()
    assert found.trials.tolist() == [32] * 3
    assert summary.sentences[1].startswith("critical weight decay at width 128 (start of generalization): 0.")
    assert "[" in summary.sentences[1]


def test_a_trial_of_a_rule_of_ones_own_stands_where_it_grokked_or_not(table):
    own = table.assign(phase=table.phase.replace({"grokking": "early", "memorization": "never"}))
    own.attrs["phases"] = ("early", "never", "diverged")
    ax = probability_map.figure(probability_map.summarize(own, "weight_decay")).axes[0]
    offsets: list[np.ma.MaskedArray] = [np.ma.asarray(points.get_offsets()) for points in ax.collections]
    early, never = (points[:, 1] for points in offsets if len(points) > 1)
    assert early.min() > 1
    assert never.max() < 0


@pytest.mark.parametrize("seeds", [4, 12])
def test_seeds_stand_beside_each_other_inside_the_panel(table, seeds):
    more = [table.assign(seed=table.seed + 4 * i) for i in range(seeds // 4)]
    summary = probability_map.summarize(pd.concat(more, ignore_index=True), "weight_decay", "width")
    sheet = probability_map.figure(summary)
    sheet.draw_without_rendering()
    ax = sheet.axes[0]
    marks = [points for points in ax.collections if isinstance(points, PathCollection)]
    places = np.concatenate([np.asarray(points.get_offsets()) for points in marks])
    assert len(np.unique(places.round(6), axis=0)) == len(places) == 24 * seeds
    inside = ax.get_window_extent().padded(0.5)
    assert all(inside.contains(*ax.transData.transform(place)) for place in places)
    away = np.abs(np.log2(places[:, 1] / 64) - np.log2(places[:, 1] / 64).round())
    assert away.max() < (0.01 if seeds <= probability_map.ROW else 0.35)  # of the way to the next width
    assert "side by side" in summary.caption


def test_counts_stand_clear_of_the_bars(table):
    sheet = boundary_position.figure(boundary_position.summarize(table, "weight_decay", "width"))
    sheet.draw_without_rendering()
    (ax,) = sheet.axes
    top = ax.get_window_extent().y1
    assert len(ax.texts) == 3
    assert all(text.get_window_extent().y0 >= top for text in ax.texts)


def test_a_line_without_a_boundary_says_on_which_side_it_lies(table):
    with_high = table.assign(depth=table.width.map({64: 1, 128: 1, 256: 1}))
    none = boundary_position.summarize(with_high.assign(grok_step=np.nan, phase="memorization"), "weight_decay")
    assert none.table.boundary.tolist() == ["none: P < 0.5"]
    assert none.sentences == ["no crossing found: P < 0.5 everywhere (0 of 96 generalized), rate 0.00 [0.00, 0.04]"]


def test_a_few_that_generalize_are_counted_where_no_crossing_is_found(table):
    """At width 64 two of the 32 generalize, at scattered places: no boundary, and not "none"."""
    few = table.assign(grok_step=table.grok_step.where(table.width != 64))
    odd = few[(few.width == 64) & (few.seed == 0)].index[[2, 5]]
    few.loc[odd, "grok_step"] = 1500.0
    summary = boundary_position.summarize(few, "weight_decay", "width")
    row = summary.table.iloc[0]
    assert (row.boundary, row.trials, row.generalized, row.rate) == ("none: P < 0.5", 32, 2, 2 / 32)
    assert (row.rate_low, row.rate_high) == (wilson(2, 32).low, wilson(2, 32).high)
    assert summary.sentences[0].startswith(
        "no crossing found at width 64: P < 0.5, nowhere surely (2 of 32 generalized)"
    )


def test_a_line_without_a_boundary_names_the_stretch_that_holds_none():
    """Generalization from weight decay 9 on, of 0.1 to 10: too near to the end to be found, and not denied."""
    decays = np.geomspace(0.1, 10, 12)
    draws = ((d, s) for d in decays for s in range(6))
    decided = [
        (BASE.replace(weight_decay=d, seed=s), threshold(d if d > 9 and s else 1e-9, 6400, s)[1]) for d, s in draws
    ]
    row = boundary_position.summarize(frame(decided), "weight_decay").table.iloc[0]
    if row.boundary.startswith("none"):
        assert row.low == -np.inf
        assert 3 < row.high < 10
    else:
        assert row.low < 9 < row.high


def test_a_line_of_a_continuous_axis_is_judged_by_the_trials_near_it():
    """Generalization at large learning rates alone: one line among the rest must not speak of the others."""
    draw = np.random.default_rng(0)
    spots = [(float(10 ** draw.uniform(-2, 0)), float(10 ** draw.uniform(-3, -1)), s) for s in range(150)]
    decided = [
        (BASE.replace(weight_decay=d, learning_rate=r, seed=s), threshold(d if r > 0.03 else 1e-9, 6400, s)[1])
        for d, r, s in spots
    ]
    found = boundary_position.summarize(frame(decided), "weight_decay", "learning_rate").table
    first, last = found.iloc[0], found.iloc[-1]
    assert (first.boundary, first.generalized) == ("none: P < 0.5", 0)
    assert last.boundary == "none: P > 0.5"
    assert 10 <= first.trials <= 40
    assert last.generalized > 0.8 * last.trials


def test_the_probability_crosses_one_half_where_the_boundary_is(table):
    summary = probability_map.summarize(table, "weight_decay", "width")
    cells = summary.table
    assert len(cells) == probability_map.FINE**2
    assert ((cells.low <= cells.probability) & (cells.probability <= cells.high)).all()
    wrong = (cells.probability > 0.5) != (cells.weight_decay * cells.width > 64)
    assert wrong.mean() < 0.08
    on_it = np.abs(np.log2(cells.weight_decay * cells.width / 64)) < 0.1
    assert cells.entropy[on_it].mean() > 3 * cells.entropy[~on_it].mean()


def test_maps_of_one_axis_of_words_and_of_one_result_are_drawn(table, tmp_path):
    words = table.assign(optimizer=["adamw", "sgd"] * (len(table) // 2))
    same = table.assign(grok_step=np.nan, phase="confusion")
    zero = table.assign(weight_decay=table.weight_decay.where(table.weight_decay > 0.1, 0.0))
    for i, summary in enumerate(
        [
            probability_map.summarize(table, "weight_decay", "width"),
            probability_map.summarize(table, "weight_decay"),
            probability_map.summarize(words, "weight_decay", None, "optimizer"),
            probability_map.summarize(same, "weight_decay", "width"),
            probability_map.summarize(zero, "weight_decay", "width"),
        ]
    ):
        probability_map.figure(summary).savefig(tmp_path / f"{i}.png", dpi=40)
    boundary_position.figure(boundary_position.summarize(table, "weight_decay", "width")).savefig(tmp_path / "b.svg")
    boundary_position.figure(boundary_position.summarize(table, "weight_decay")).savefig(tmp_path / "c.svg")
    with pytest.raises(style.Absent, match="has words"):
        boundary_position.summarize(words, "optimizer")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pairs = [
        made(BASE.replace(weight_decay=d, width=w, depth=k, seed=s))
        for d in (0.1, 0.4, 0.7)
        for w in (64, 128)
        for k in (1, 2)
        for s in (0, 1, 2)
    ]
    trials = frame(pairs)
    rows = [
        (run, key, step, value)
        for run, pair in zip(trials.run_id, pairs, strict=True)
        for key, line in curves(*pair).items()
        if key.endswith("accuracy")
        for step, value in line
    ]
    lines = type(trials)(rows, columns=["run_id", "key", "step", "value"])
    sweep = Sweep(
        "a </script> <!-- <script> <img src=x onerror=document.title=1> sweep",
        ("weight_decay", "width", "depth", "seed"),
        trials,
        experiment_id="7",
    )
    path = tmp_path_factory.mktemp("page") / "map.html"
    path.write_text(interactive.page(sweep, lines))
    return path, trials


def test_the_page_holds_every_trial_and_needs_no_network(page):
    path, trials = page
    text = path.read_text()
    data = re.search(r'type="application/json">(.*?)</script>', text, re.S)
    assert data is not None
    told = json.loads(data.group(1))
    assert {t["run"] for t in told["trials"]} == set(trials.run_id)
    assert [a["name"] for a in told["axes"]] == ["weight_decay", "width", "depth"]
    assert len(told["steps"]) == 1
    assert all(len(t["test"]) == len(told["steps"][t["grid"]]) for t in told["trials"])
    assert not re.search(r"(src|href)\s*=\s*[\"']http", text)


def test_the_page_says_so_where_a_sampler_chose_the_points(table):
    lines = pd.DataFrame(columns=["run_id", "key", "step", "value"])
    for trials, axes, said in (
        (table, ("weight_decay", "width", "seed"), False),
        (table.assign(seed=range(len(table))), ("weight_decay", "width", "seed"), True),
        (table.head(1).loc[[0] * 4].assign(seed=range(4)), ("seed",), False),
    ):
        note = str(interactive.summarize(Sweep("some", axes, trials), lines)["note"])
        assert (caption.SAMPLED in note) == said


def test_a_thousand_trials_stay_small():
    pair = made(BASE)
    trials = frame([pair]).loc[[0] * 1000].assign(run_id=[f"run{i:028}" for i in range(1000)])
    steps = np.arange(0, 150_000, 1_000)
    runs = np.repeat(trials.run_id.to_numpy(), len(steps))
    own = {"run_id": runs, "step": np.tile(steps, 1000), "value": 0.1234}
    lines = type(trials)(own)
    both = [lines.assign(key=key) for key in ("train_accuracy", "test_accuracy")]
    sweep = Sweep("big", ("weight_decay", "seed"), trials)
    assert len(interactive.page(sweep, pd.concat(both))) < 2_000_000


def browsed(text: str, acts: str, folder, address: str = "") -> str:
    """The page as it stands after the acts, which leave what they saw in ``document.body.dataset``."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    acted = folder / "acted.html"
    done = 'document.body.dataset.done = "yes";'
    acted.write_text(text.replace("</body>", f"<script>{acts}{done}</script></body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"file://{acted}#{address}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(folder)})
    assert 'data-done="yes"' in shown.stdout, shown.stderr[-2000:]
    return shown.stdout


def tag(shown: str) -> str:
    """The body's own, with what the acts left in it."""
    found = re.search(r"<body[^>]*>", shown)
    assert found is not None
    return found.group(0)


def test_hover_click_swap_and_slice_in_a_browser(page, tmp_path):
    path, trials = page
    cell = trials[(trials.weight_decay == 0.7) & (trials.width == 64) & (trials.depth == 2)]
    acts = """
    const spot = () => document.querySelector('[data-cell="weight_decay=0.7 width=64"]');
    spot().dispatchEvent(new MouseEvent("mousemove", {clientX: 5, clientY: 5}));
    document.body.dataset.tip = document.getElementById("tip").textContent;
    spot().dispatchEvent(new MouseEvent("click"));
    document.body.dataset.curves = document.querySelectorAll("#cell polyline[data-run]").length;
    document.body.dataset.covered = document.getElementById("tip").style.display;
    document.body.dataset.links = [...document.querySelectorAll("#runs a")].map(a => a.href.split("?")[1]).join();
    document.getElementById("swap").click();
    document.body.dataset.swapped = document.querySelectorAll('[data-cell="width=64 weight_decay=0.7"]').length;
    """
    shown = browsed(path.read_text(), acts, tmp_path, "at.depth=2")
    body = tag(shown)
    rate, time = wilson(int(cell.grok_step.notna().sum()), 3), grok_time(cell)
    assert f"generalized {time.grokked} of 3: {rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]" in body
    median = f"{time.median.value:,.0f}" if np.isfinite(time.median.value) else "not reached"
    assert f"(Kaplan–Meier): {median}" in body
    assert 'data-curves="6"' in body
    assert 'data-covered="none"' in body
    assert f'data-links="{",".join(3 * ["workflowType=machine_learning"])}"' in body
    assert 'data-swapped="1"' in body
    for run in cell.run_id:
        assert run not in shown.split("<body")[0]


def test_the_page_by_keyboard_in_its_address_and_on_a_phone(page, tmp_path):
    text = page[0].read_text()
    embedded = json.dumps(text).replace("</", "<\\/")
    acts = f"""
    const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {{key, bubbles: true}}));
    const saw = document.body.dataset, stops = () => document.querySelectorAll('.spot[tabindex="0"]');
    saw.bar = document.querySelector("#bar").getAttribute("aria-label");
    saw.stops = stops().length;
    stops()[0].focus();
    saw.start = document.activeElement.dataset.cell;
    press("ArrowRight"); press("ArrowUp");
    saw.moved = document.activeElement.dataset.cell;
    saw.named = document.activeElement.getAttribute("aria-label");
    press("Enter");
    saw.open = document.querySelector("#cell b").textContent;
    saw.kept = document.activeElement.dataset.cell;
    saw.address = location.hash;
    const frame = document.createElement("iframe");
    frame.style.width = "390px";
    frame.srcdoc = {embedded};
    frame.onload = () => {{
      const inside = frame.contentDocument;
      inside.querySelector(".spot").dispatchEvent(new MouseEvent("click"));
      saw.wide = inside.documentElement.scrollWidth <= frame.clientWidth;
    }};
    document.body.append(frame);
    """
    shown = browsed(text, acts, tmp_path, "color=rate")
    saw = dict(re.findall(r'data-(\w+)="([^"]*)"', tag(shown)))
    assert saw["bar"] == "share generalized: dark 0, light 1"
    assert saw["stops"] == "1"
    assert saw["start"] == "weight_decay=0.1 width=64"
    assert saw["moved"] == saw["kept"] == "weight_decay=0.4 width=128"
    assert saw["named"].startswith("weight decay 0.4 width 128. n = 6 trials: ")
    assert saw["open"] == "weight decay 0.4 width 128"
    told = parse_qs(html.unescape(saw["address"]).removeprefix("#"))
    assert told == {"x": ["weight_decay"], "y": ["width"], "color": ["rate"], "cell": ["weight_decay=0.4 width=128"]}
    assert saw["wide"] == "true"


def test_no_figure_claims_room_that_it_does_not_use(table):
    """An artist without points, laid out outside the axes, once left half of the sheet blank."""
    sheet = boundary_position.figure(boundary_position.summarize(table, "weight_decay", "width"))
    sheet.draw_without_rendering()
    box = sheet.axes[0].get_position()
    assert box.height * sheet.get_figheight() > 0.8 * 30 / 25.4
    assert box.y0 < 0.5
