"""What the terminal shows while a search runs: a live view, or plain lines where nobody watches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.formats import format_score, format_value
from search.paced import Paced
from search.rungs import expected_epochs
from trainables.data import ProgressBar

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from search.budgets import Budgets
    from search.controller import Controller
    from search.study import Outcome

REFRESH_SECONDS = 0.5
LINE_SECONDS = 15.0
RATE_WINDOW_SECONDS = 60.0
TRAINED: tuple[Outcome, ...] = ("complete", "pruned", "diverged", "failed")


@dataclass(frozen=True)
class Snapshot:
    """A search at one moment."""

    states: dict[str, int]
    """Trials by outcome, and of those without one by state."""
    trials: int | None
    """Configurations to train."""
    rungs: list[tuple[int, int, int]]
    """Level in epochs, arrivals, and how many of them went on."""
    best: tuple[float, int, str, dict[str, Any]] | None
    """Score, trial, baseline name or empty, parameters."""
    epochs_per_second: float
    images_per_second: float
    """Training images a second of all running trials together, judged by the last reports."""
    elapsed: float
    remaining: float | None
    """Seconds, estimated; None while nothing can be said."""
    cluster: str = ""
    """Nodes and how much of them trains; empty on one machine."""

    @property
    def ended(self) -> int:
        """Configurations with an outcome that count as trained."""
        return sum(self.states[name] for name in TRAINED)


class Progress:
    """Watches a controller and shows it. Used as a context manager around the search."""

    def __init__(
        self,
        console: Console,
        controller: Controller,
        metric: str,
        budgets: Budgets,
        *,
        quiet: bool,
        label: str = "",
        busy: Callable[[int], str] | None = None,
    ) -> None:
        """`busy` says how much of a cluster trains, where there is one, from the number of running trials."""
        self.console, self.controller, self.metric, self.budgets = console, controller, metric, budgets
        self.quiet, self.label, self.busy = quiet, label, busy or (lambda running: "")
        self.started = time.monotonic()
        # what a resumed search had done before says nothing about how fast this one is
        self._epochs: deque[tuple[float, int]] = deque([(self.started, controller.epochs)])
        self._epochs_before = controller.epochs
        self._pace = Paced(least=LINE_SECONDS)
        self._live: Live | None = None
        self._last_line = ""

    def __enter__(self) -> Progress:
        if not self.quiet and self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif not self.quiet:
            self._print_line()

    def update(self) -> None:
        """Show the search as it stands; cheap to call often."""
        if not self.quiet:
            self._pace.least = LINE_SECONDS if self._live is None else REFRESH_SECONDS
            self._pace.run(self._show)

    def _show(self) -> None:
        if self._live is None:
            self._print_line()
        else:
            self._live.update(view(self.snapshot(), self.metric), refresh=True)

    def say(self, text: str) -> None:
        """A line that stays on the screen; safe in a signal handler's place."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _print_line(self) -> None:
        text = " ".join(filter(None, (self.label, line(self.snapshot(), self.metric))))
        if text != self._last_line:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
            self._last_line = text

    def snapshot(self) -> Snapshot:
        """The search as it stands."""
        controller = self.controller
        states: dict[str, int] = dict.fromkeys(("running", "waiting", "interrupted"), 0)
        states |= {str(name): count for name, count in controller.outcomes.items()}
        for trial in controller.live.values():
            states[trial.state] += 1
        now = time.monotonic()
        self._epochs.append((now, controller.epochs))
        while now - self._epochs[0][0] > RATE_WINDOW_SECONDS:
            self._epochs.popleft()
        then, before = self._epochs[0]
        epochs_per_second = (controller.epochs - before) / max(now - then, 1e-9)
        snapshot = Snapshot(
            states=states,
            trials=controller.plan.trials,
            rungs=[(r.level, len(r.scores), len(r.gone_on)) for r in controller.ladder.rungs],
            best=self._best(),
            epochs_per_second=epochs_per_second,
            images_per_second=self._images_per_second(states["running"]),
            elapsed=now - self.started,
            remaining=None,
            cluster=self.busy(states["running"]),
        )
        return Snapshot(**{**vars(snapshot), "remaining": self._remaining(snapshot)})

    def _images_per_second(self, running: int) -> float:
        """Of all running trials, judged by as many of the last reports: an epoch may take minutes."""
        rates = [float(row.get("images_per_second", 0.0)) for row in self.controller.recent]
        last = rates[-running:] if running else []
        return running * sum(last) / len(last) if last else 0.0

    def _best(self) -> tuple[float, int, str, dict[str, Any]] | None:
        number = self.controller.best()
        if number is None:
            return None
        trial = self.controller.record.trial(number)
        return self.controller.scores[number], number, trial.user_attrs.get("baseline", ""), trial.params

    def _remaining(self, snapshot: Snapshot) -> float | None:
        guesses = []
        done = self.controller.epochs - self._epochs_before
        if snapshot.trials is not None and done:
            guesses.append(snapshot.elapsed / done * (self._expected_epochs() - self.controller.epochs))
        guesses += self.budgets.seconds_left(done, snapshot.elapsed, self.controller.epochs)
        return max(0.0, min(guesses)) if guesses else None

    def _expected_epochs(self) -> int:
        plan = self.controller.plan
        assert plan.trials is not None
        if plan.rule == "none":
            return plan.trials * plan.max_epochs
        levels = [rung.level for rung in self.controller.ladder.rungs]
        return expected_epochs(levels, plan.trials, plan.reduction_factor)


def line(snapshot: Snapshot, metric: str) -> str:
    """The search in one plain line."""
    done = f"{snapshot.ended}/{snapshot.trials}" if snapshot.trials else str(snapshot.ended)
    states = ", ".join(f"{count} {name}" for name, count in snapshot.states.items() if count)
    parts = [f"{_clock(snapshot.elapsed)}  {done} trials ({states or 'none yet'})"]
    if snapshot.best is not None:
        score, number, baseline, _ = snapshot.best
        named = f": {baseline}" if baseline else ""
        parts.append(f"best {format_score(score, metric)} (trial {number}{named})")
    parts.append(f"{snapshot.images_per_second:,.0f} images/s")
    if snapshot.cluster:
        parts.append(f"{snapshot.cluster}, {snapshot.epochs_per_second:.1f} results/s")
    if snapshot.remaining is not None:
        parts.append(f"about {_clock(snapshot.remaining)} left")
    return "  |  ".join(parts)


def view(snapshot: Snapshot, metric: str) -> RenderableType:
    """The search as a panel for a live terminal."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    done = f"{snapshot.ended} of {snapshot.trials}" if snapshot.trials else str(snapshot.ended)
    left = "" if snapshot.remaining is None else f", about {_clock(snapshot.remaining)} left"
    facts = Table.grid(padding=(0, 2))
    facts.add_row(
        "trials",
        Text(f"{done}   " + "  ".join(f"{n} {name}" for name, n in snapshot.states.items() if n)),
    )
    rungs = "   ".join(
        f"{level} ep: {arrived}" + ("" if is_last else f" -> {on}")
        for level, arrived, on, is_last in (
            (*rung, position == len(snapshot.rungs) - 1) for position, rung in enumerate(snapshot.rungs)
        )
    )
    facts.add_row("rungs", Text(rungs))
    facts.add_row(
        "speed",
        Text(f"{snapshot.images_per_second:,.0f} images/s, {60 * snapshot.epochs_per_second:.1f} epochs/min"),
    )
    if snapshot.cluster:
        facts.add_row("cluster", Text(f"{snapshot.cluster}, {snapshot.epochs_per_second:.1f} results/s"))
    facts.add_row("time", Text(f"{_clock(snapshot.elapsed)}{left}"))
    rows: list[RenderableType] = [facts]
    if snapshot.best is not None:
        score, number, baseline, params = snapshot.best
        named = f" ({baseline})" if baseline else ""
        facts.add_row(
            "best", Text(f"{format_score(score, metric)}  trial {number}{named}", style="bold green")
        )
        rows.append(
            Text("  ".join(f"{name}={format_value(value)}" for name, value in params.items()), style="dim")
        )
    return Panel(Group(*rows), title=f"search, validation {metric}", width=100)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:d}:{second:02d}"


class DataProgress:
    """Progress bars for reading data, in the style of the rest; the factory that `load_dataset` takes."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console, self.quiet = console, quiet

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[ProgressBar]:
        """A bar for work of `total` bytes (0: not known)."""
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), DownloadColumn(), TimeRemainingColumn())
        shown = not self.quiet and self.console.is_terminal
        if not self.quiet and not shown:
            self.console.print(description, highlight=False, markup=False, soft_wrap=True)
        with Bars(*columns, console=self.console, disable=not shown, transient=True) as bars:
            task = bars.add_task(description, total=total or None)
            yield _Bar(bars, task)


class _Bar:
    def __init__(self, bars: Any, task: Any) -> None:
        self.bars, self.task = bars, task

    def advance(self, amount: int) -> None:
        self.bars.advance(self.task, amount)
