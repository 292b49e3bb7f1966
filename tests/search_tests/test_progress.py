import dataclasses
import io
import math

import optuna
import pytest
from rich.console import Console

from search import progress as module
from search.budgets import Budgets
from search.controller import Controller, Plan
from search.progress import DataProgress, Progress, Snapshot, line, view
from search.sampler import make_sampler

EMPTY = dict.fromkeys(
    ("running", "waiting", "interrupted", "complete", "pruned", "diverged", "infeasible", "failed"), 0
)
START = Snapshot(
    states=EMPTY,
    trials=16,
    rungs=[(1, 0, 0), (3, 0, 0), (9, 0, 0)],
    best=None,
    epochs_per_second=0.0,
    images_per_second=0.0,
    elapsed=0.0,
    remaining=None,
)
MIDDLE = Snapshot(
    states=EMPTY | {"running": 2, "complete": 3, "pruned": 4, "infeasible": 5},
    trials=16,
    rungs=[(1, 9, 3), (3, 3, 1), (9, 1, 0)],
    best=(0.8125, 4, "[plain]", {f"family.parameter{n}": 0.123456789 for n in range(20)}),
    epochs_per_second=0.5,
    images_per_second=12345.6,
    elapsed=3725.0,
    remaining=59.6,
)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("search.paced.time", clock)
    return clock


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def controller(record) -> Controller:
    return Controller(
        record,
        Plan(min_epochs=1, max_epochs=3, reduction_factor=3, rule="stop", trials=4),
        suggest=lambda trial: trial.suggest_float("lr", 0, 1),
        sampler=lambda number: make_sampler("random", 0, number),
    )


def train(controller: Controller, epochs: int, score: float = 0.5) -> int:
    """Train a new trial for some epochs; returns its number."""
    work = controller.next_work()
    assert work is not None
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "images_per_second": 100.0, "seconds": 1.0}
        if not controller.report(work.trial, row, score):
            break
    return work.trial


def rendered(snapshot: Snapshot) -> str:
    shown = Console(record=True, width=100, file=io.StringIO())
    shown.print(view(snapshot, "accuracy"))
    return shown.export_text()


def test_plain_line_says_everything():
    assert line(MIDDLE, "accuracy") == (
        "1:02:05  7/16 trials (2 running, 3 complete, 4 pruned, 5 infeasible)  |  "
        "best 81.25 % (trial 4: [plain])  |  12,346 images/s  |  about 1:00 left"
    )


def test_plain_line_at_the_start():
    assert line(START, "accuracy") == "0:00  0/16 trials (none yet)  |  0 images/s"
    without_end = dataclasses.replace(START, trials=None)
    assert line(without_end, "loss") == "0:00  0 trials (none yet)  |  0 images/s"


def test_live_view_fits_100_columns_and_says_everything():
    text = rendered(MIDDLE)
    assert max(len(row) for row in text.splitlines()) == 100
    for part in (
        "search, validation accuracy",
        "7 of 16",
        "4 pruned",
        "1 ep: 9 -> 3   3 ep: 3 -> 1   9 ep: 1",
        "12,346 images/s, 30.0 epochs/min",
        "1:02:05, about 1:00 left",
        "81.25 %  trial 4 ([plain])",
        "family.parameter19=0.1235",
    ):
        assert part in text


def test_live_view_at_the_start():
    text = rendered(START)
    assert "0 of 16" in text
    assert "best" not in text
    assert "left" not in text


def test_first_snapshot_divides_by_nothing(controller, clock):
    with Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True) as progress:
        snapshot = progress.snapshot()
    assert (snapshot.epochs_per_second, snapshot.elapsed, snapshot.remaining) == (0.0, 0.0, None)
    assert snapshot.best is None


def test_snapshot_counts_what_the_controller_knows(controller, clock):
    progress = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    best = train(controller, 3, 0.75)
    train(controller, 3, 0.25)
    train(controller, 1, math.nan)
    clock.now += 10
    snapshot = progress.snapshot()
    assert snapshot.states == EMPTY | {"complete": 1, "pruned": 1, "diverged": 1}
    assert (snapshot.ended, snapshot.trials, snapshot.elapsed) == (3, 4, 10.0)
    assert snapshot.rungs == [(1, 3, 1), (3, 1, 0)]
    assert snapshot.best is not None
    assert snapshot.best[:3] == (0.75, best, "")
    assert snapshot.best[3].keys() == {"lr"}
    assert snapshot.epochs_per_second == pytest.approx(0.5)


def test_rate_is_that_of_the_last_minute(controller, clock):
    progress = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    train(controller, 3)
    clock.now += 30
    assert progress.snapshot().epochs_per_second == pytest.approx(0.1)
    clock.now += 50
    assert progress.snapshot().epochs_per_second == 0.0


def test_speed_adds_up_the_trials_that_run(controller, clock):
    first = controller.next_work()
    second = controller.next_work()
    for work in (first, second):
        controller.report(work.trial, {"epoch": 1, "images_per_second": 100.0}, 0.5)
    progress = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    running = progress.snapshot().states["running"]
    assert progress.snapshot().images_per_second == 100.0 * running > 0


def test_time_left_is_that_of_the_trials_or_of_the_budget(controller, clock):
    without = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    budgets = Budgets(seconds=25.0)
    short = Progress(console(terminal=False), controller, "accuracy", budgets, quiet=True)
    budgets.tick(clock.now, 0.0)
    clock.now += 10
    budgets.tick(clock.now, 0.0)
    assert (without.snapshot().remaining, short.snapshot().remaining) == (None, 15.0)
    train(controller, 3)
    train(controller, 3)
    clock.now += 10
    budgets.tick(clock.now, 0.0)
    assert (without.snapshot().remaining, short.snapshot().remaining) == (10.0, 5.0)
    clock.now += 10
    budgets.tick(clock.now, 0.0)
    assert short.snapshot().remaining == 0.0


def test_what_was_done_before_a_resume_says_nothing_about_the_speed(controller, clock):
    train(controller, 3)
    train(controller, 3)
    progress = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    clock.now += 10
    snapshot = progress.snapshot()
    assert (snapshot.ended, snapshot.epochs_per_second, snapshot.remaining) == (2, 0.0, None)
    train(controller, 3)
    train(controller, 3)
    clock.now += 10
    assert progress.snapshot().remaining == 0.0


def test_lines_are_printed_now_and_then_and_at_the_end(controller, clock):
    shown = console(terminal=False)
    with Progress(shown, controller, "accuracy", Budgets(), quiet=False) as progress:
        progress.update()
        progress.update()
        assert printed(shown).count("\n") == 1
        clock.now += module.LINE_SECONDS
        progress.update()
        assert printed(shown).count("\n") == 2
        train(controller, 3)
    assert printed(shown).count("\n") == 3
    assert "1/4 trials" in printed(shown).splitlines()[-1]


def test_live_view_is_shown_on_a_terminal(controller, clock):
    shown = console(terminal=True)
    with Progress(shown, controller, "accuracy", Budgets(), quiet=False) as progress:
        progress.update()
        progress.say("stopping: [all] is kept")
    assert "0 of 4" in printed(shown)
    assert "stopping: [all] is kept" in printed(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_prints_nothing(controller, clock, terminal):
    shown = console(terminal=terminal)
    with Progress(shown, controller, "accuracy", Budgets(seconds=5.0), quiet=True) as progress:
        train(controller, 3)
        clock.now += 100
        progress.update()
        progress.say("stopping")
    with DataProgress(shown, quiet=True)("reading", 100) as bar:
        bar.advance(100)
    assert printed(shown) == ""


def test_text_in_brackets_is_no_markup(controller, clock):
    shown = console(terminal=False)
    progress = Progress(shown, controller, "accuracy", Budgets(), quiet=False)
    progress.say("in [red]/data[/x]")
    with DataProgress(shown, quiet=False)("reading /data/[bold]", 0) as bar:
        bar.advance(1)
    assert printed(shown).splitlines() == ["in [red]/data[/x]", "reading /data/[bold]"]


def test_reading_data_shows_a_bar_on_a_terminal():
    shown = console(terminal=True)
    with DataProgress(shown, quiet=False)("reading [/x]", 10**6) as bar:
        bar.advance(10**6)
    assert "reading [/x]" in printed(shown)
    assert "1.0/1.0 MB" in printed(shown)


def test_baseline_is_named_beside_the_best(record, clock):
    controller = Controller(
        record,
        Plan(min_epochs=1, max_epochs=1, reduction_factor=3, rule="stop", trials=2),
        suggest=lambda trial: trial.suggest_float("lr", 0, 1),
        sampler=lambda number: optuna.samplers.RandomSampler(seed=number),
        baselines={"plain": {"lr": 0.5}},
    )
    train(controller, 1)
    progress = Progress(console(terminal=False), controller, "accuracy", Budgets(), quiet=True)
    assert "best 50.00 % (trial 0: plain)" in line(progress.snapshot(), "accuracy")
