"""A study driven on Ray until it is finished or something ends it: the search itself, and what follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.budgets import Budgets
from search.controller import Controller, Work
from search.engine import Engine, StopReason, make_trainable, ship
from search.interrupts import interrupts
from search.mirror import Mirror
from search.preflight import Prepared
from search.progress import Progress
from search.resume import DriverLock, own_modules
from search.study import StudyRecord
from trainables.checkpoint import code_hash, identity
from trainables.compiling import CompileChoice
from trainables.config import Task
from trainables.data import Dataset
from trainables.place import Folder
from trainables.stint import Stint
from trainables.storage import TakenOverError

if TYPE_CHECKING:
    from rich.console import Console

    from search.cluster import Cluster

SPENT_SECONDS = 1.0
"""Time between two notes of what is spent; a crash loses no more of it."""
STORAGE_FAULTS = 2
"""Times in a row that a node, or a trial, may not reach the storage before that ends a cluster's search."""
STINTS_A_SITTING = 1000
"""More than a trial can have under one driver."""


_SCORES = {"accuracy": "val_accuracy", "macro_f1": "val_macro_f1", "loss": "val_loss"}


def score_of(metric: str) -> Callable[[Mapping[str, Any]], float]:
    """What reads the score out of an epoch's report."""
    return lambda row: float(row[_SCORES[metric]])


@dataclass(frozen=True, kw_only=True)
class Job:
    """One study of a run, and how its trials train."""

    label: str
    """What the terminal calls it; empty for the search."""
    record: StudyRecord
    controller: Controller
    dataset: Dataset
    task: Task
    metric: str
    """Of the scores, for reading."""
    score: Callable[[Mapping[str, Any]], float]
    """The score in an epoch's report."""
    seed: Callable[[int], int]
    """Of a trial's training, by its number."""
    folder: Callable[[int], Folder]
    """Where a trial's checkpoints go, by its number."""
    in_full: bool = False
    """Whether every trial is trained to the end, so that compiling may repay."""
    on_end: Callable[[int], None] = lambda number: None
    """Called with the number of each trial that has ended."""
    on_second: Callable[[], None] = lambda: None
    """Called about once a second."""


class Driver:
    """Drives the studies of one run, one after another.

    `search` is the record of the search, which also notes what is spent. Ray must have been started.
    """

    def __init__(
        self,
        prepared: Prepared,
        search: StudyRecord,
        console: Console,
        lock: DriverLock,
        mirror: Mirror,
        *,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster
        self.prepared, self.search, self.console, self.lock = prepared, search, console, lock
        self.mirror = mirror
        self.first_stint = STINTS_A_SITTING * prepared.folder.sitting
        """The number of a trial's first stint under this driver, had it none before."""
        settings, known = prepared.settings, search.study.user_attrs
        self.budgets = Budgets(
            seconds=settings.budget_seconds(),
            epochs=settings.total_epochs,
            gpu_seconds=None if settings.gpu_hours is None else 3600 * settings.gpu_hours,
            # what is spent is counted over all sittings
            spent_seconds=float(known.get("seconds", 0.0)),
            spent_gpu_seconds=float(known.get("gpu_seconds", 0.0)),
        )
        self._made: tuple[Dataset, Any] | None = None
        self.drove = False
        """Whether anything has been trained."""
        modules = own_modules(prepared.space.module)
        ship(modules)
        self.code = code_hash(*modules)

    @property
    def slots_expected(self) -> int:
        """Trials that will run side by side, for plans."""
        return self.prepared.slots.count if self.cluster is None else self.cluster.expected()

    @property
    def compile(self) -> CompileChoice:
        """Whether compiling is tried. A budget of time is planned by epochs as they were: there is no room
        for what may not repay.
        """
        limited = self.budgets.seconds is not None or self.budgets.gpu_seconds is not None
        choice = self.prepared.settings.compile
        return "never" if choice == "auto" and limited else choice

    def say(self, text: str) -> None:
        """A line on the terminal, unless nothing is to be said."""
        if not self.prepared.settings.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def note_spent(self) -> None:
        """Write down what the run has used up so far."""
        self.search.set_attributes(
            {"seconds": self.budgets.spent_seconds, "gpu_seconds": self.budgets.spent_gpu_seconds}
        )

    def drive(self, job: Job) -> StopReason:
        """Run a study's work on Ray; returns what ended it. Raises what the engine raises."""
        self.drove = True
        settings = self.prepared.settings
        progress = Progress(
            self.console,
            job.controller,
            job.metric,
            self.budgets,
            quiet=settings.quiet,
            label=job.label,
            busy=None if self.cluster is None else self.cluster.busy,
        )
        written = time.monotonic()

        def on_step() -> None:
            nonlocal written
            try:
                self.lock.beat()
                self.mirror.check()
            except TakenOverError:
                job.record.abandon()
                self.search.abandon()
                raise
            job.record.flush()
            if time.monotonic() - written >= SPENT_SECONDS:
                self.note_spent()
                job.on_second()
                written = time.monotonic()
            if self.cluster is not None:
                self.cluster.follow(job.controller.demand)
            progress.update()

        def on_end(number: int) -> None:
            job.on_end(number)
            self.mirror.trial_ended()

        engine = Engine(
            job.controller,
            self.prepared.slots,
            self._trainable(job.dataset),
            lambda work: self._stint(job, work),
            job.score,
            room=None if self.cluster is None else self.cluster.room,
            storage_faults=0 if self.cluster is None else STORAGE_FAULTS,
            budgets=self.budgets,
            say=progress.say,
            on_step=on_step,
            on_end=on_end,
        )
        self.budgets.tick(time.monotonic(), 0.0)
        try:
            with interrupts(engine, progress.say), progress:
                stopped = engine.run()
            # asked to stop in the last moment of one study: the next is not begun
            return "interrupted" if engine.stop_requested.is_set() else stopped
        finally:
            job.record.flush(force=True)
            self.note_spent()

    def _trainable(self, dataset: Dataset) -> Any:
        """One a data set, for each puts its own copy of it where the workers get it."""
        if self._made is None or self._made[0] is not dataset:
            made = make_trainable(
                self.prepared.slots,
                dataset,
                weights=self.prepared.weights,
                device=self.prepared.settings.device,
            )
            self._made = dataset, made
        return self._made[1]

    def _stint(self, job: Job, work: Work) -> Stint:
        settings, trial = self.prepared.settings, job.controller.live[work.trial]
        return Stint(
            trial=work.trial,
            # a record that lagged behind when its driver was lost gives numbers out again: this one is higher
            stint=self.first_stint + work.stint,
            config=work.config,
            task=job.task,
            seed=job.seed(work.trial),
            known_epochs=work.known_epochs,
            checkpoint_epochs=tuple(rung.level for rung in job.controller.ladder.rungs),
            checkpoint_seconds=settings.checkpoint_seconds,
            folder=job.folder(work.trial).absolute(),
            identity=identity(work.config, job.task, job.dataset.fingerprint, self.code),
            precision=settings.precision,
            # what went wrong once is tried again without
            compile=self.compile
            if job.in_full and not (trial.failures or trial.lost or trial.nodes_lost)
            else "never",
            params=job.record.trial(work.trial).params,
        )
