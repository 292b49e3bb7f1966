"""The honest finish: the best configurations are confirmed with new seeds, and the winner is refitted.

Both are studies of their own in the run's database, `NAME/confirm` and `NAME/refit`, driven and resumed as
the search is and never seen by its sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from search.controller import Controller, Plan, Work
from search.drive import Driver, Job, score_of
from search.final import CONFIRM, REFIT, confirmed, stage_folder
from search.kept import save_model
from search.record import open_record
from search.reruns import Finish, Rerun, busy_seconds, reruns, wall_seconds
from search.results import Results
from search.sampler import samplers
from search.tables import ranked
from trainables import checkpoint
from trainables.config import from_json, to_json
from trainables.data import merged
from trainables.seeding import derive_seed

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.engine import StopReason

MOST_SHARE = 0.5
"""Of a time budget, or of GPU-hours, that is kept for what follows the search."""


def keep_for_finish(driver: Driver) -> None:
    """Keep back of the budgets what confirming and refitting will take, as far as is known by now."""
    budgets, slots = driver.budgets, driver.prepared.slots
    if budgets.seconds is None and budgets.gpu_seconds is None:
        return
    phases = _phases(driver, _asked(driver, _scored(driver)))
    wall = sum(wall_seconds(phase, slots.count) for phase in phases)
    busy = sum(busy_seconds(phase) for phase in phases)
    if budgets.seconds is not None:
        budgets.kept_seconds = min(wall, MOST_SHARE * budgets.seconds)
    if budgets.gpu_seconds is not None:
        budgets.kept_gpu_seconds = min(busy * slots.gpus, MOST_SHARE * budgets.gpu_seconds)


def finish(driver: Driver) -> StopReason:
    """Confirm and refit what the search found, as far as the budgets allow; returns what ended it.

    What an earlier sitting did of it is not done again.
    """
    budgets = driver.budgets
    budgets.epochs = None  # it bounds the search alone
    budgets.kept_seconds = budgets.kept_gpu_seconds = 0.0
    scored = _scored(driver)
    if not scored:
        return "finished"
    with _Stage(driver, CONFIRM) as confirm:
        asked = _asked(driver, scored)
        plan = asked.largest(lambda less: _fits(driver, [confirm.missing(p) for p in _phases(driver, less)]))
        if not plan.top:
            driver.say("the budget leaves too little time to confirm anything")
            return "finished"
        smaller = "" if plan == asked else ", as many as the budget allows"
        configurations = "configuration" if plan.top == 1 else f"{plan.top} configurations"
        stopped = confirm.drive(
            reruns(scored[: plan.top], plan.seeds, _epochs(driver)),
            f"confirming the best {configurations} with {_seeds(plan.seeds)} each{smaller}",
        )
    if stopped != "finished":
        return stopped
    winners = confirmed(Results(driver.prepared.folder.path))
    if not winners:
        driver.say("no configuration could be trained once more: the study of the confirm runs says why")
        return "finished"
    winner = driver.search.trial(winners[0].trial)
    others = [trial for trial in _baselines(scored) if trial.number != winner.number]
    baselines = f" and {len(others)} baselines" if others else ""
    with _Stage(driver, REFIT) as refit:
        return refit.drive(
            reruns([winner], plan.seeds, _epochs(driver)) + reruns(others, 1, _epochs(driver)),
            f"refitting trial {winner.number}{baselines} on training and validation images",
        )


class _Stage:
    """One of the two studies that follow a search; a context that closes its record."""

    def __init__(self, driver: Driver, kind: Literal["confirm", "refit"]) -> None:
        self.driver, self.kind = driver, kind
        search, prepared = driver.search.study, driver.prepared
        name, settings = f"{search.study_name}/{kind}", prepared.settings
        if kind == CONFIRM:
            metric = f"validation {settings.metric}"
            self.record = open_record(prepared, name, settings.direction, metric)
        else:
            self.record = open_record(prepared, name, "minimize", "training loss")
        self.known: dict[int, str] = {}
        """What the training of each trial is called."""
        for trial in self.record.trials():
            self.known[trial.number] = str(trial.user_attrs["baseline"])

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.record.close()

    def missing(self, trainings: Sequence[Rerun]) -> list[Rerun]:
        """Those that have not ended yet."""
        done = {self.known[trial.number] for trial in self.record.trials() if trial.state.is_finished()}
        return [training for training in trainings if training.key not in done]

    def drive(self, trainings: Sequence[Rerun], message: str) -> StopReason:
        """Do what is missing of these trainings; `message` is said where anything is."""
        if self.kind == REFIT:
            self._keep_models()
        if not self.missing(trainings):
            return "finished"
        self.driver.say(message)
        return self.driver.drive(self._job(trainings))

    def _job(self, trainings: Sequence[Rerun]) -> Job:
        prepared = self.driver.prepared
        settings, task = prepared.settings, prepared.task
        wanted = {training.key: training for training in trainings}
        new = [key for key in wanted if key not in self.known.values()]
        controller = Controller(
            self.record,
            Plan(
                min_epochs=task.max_epochs,
                max_epochs=task.max_epochs,
                reduction_factor=settings.reduction_factor,
                rule="none",
                trials=len(self.known) + len(new),
                retries=settings.retries,
            ),
            suggest=lambda trial: prepared.space.suggest(trial, task),
            sampler=samplers("random", settings.seed),  # proposes nothing: every configuration is given
            limit=lambda config: (None, {"config": to_json(config)}),
            baselines={key: wanted[key].params for key in new},
        )

        def label(number: int) -> str:
            return str(self.record.trial(number).user_attrs["baseline"])

        def on_begin(work: Work) -> None:
            training = wanted.get(label(work.trial))
            if training is not None:
                facts = {"of": training.of, "seed": training.seed, "name": training.name}
                self.record.note(work.trial, facts)

        dataset = prepared.dataset if self.kind == CONFIRM else merged(prepared.dataset)
        return Job(
            label=self.kind,
            record=self.record,
            controller=controller,
            dataset=dataset,
            task=replace(task, train_images=len(dataset.train)),
            metric=settings.metric if self.kind == CONFIRM else "loss",
            score=score_of(settings.metric) if self.kind == CONFIRM else lambda row: float(row["train_loss"]),
            seed=lambda number: derive_seed(settings.seed, self.kind, label(number)),
            folder=self._folder,
            on_begin=on_begin,
            on_end=self._ended,
        )

    def _folder(self, number: int) -> Path:
        return stage_folder(self.driver.prepared.folder, self.kind, number)

    def _ended(self, number: int) -> None:
        if self.kind == REFIT:
            self._keep_models()
        checkpoint.remove(self._folder(number))

    def _keep_models(self) -> None:
        """Write the model of every training that is complete; one may lack it where a driver was killed."""
        prepared = self.driver.prepared
        for trial in self.record.trials():
            folder = self._folder(trial.number)
            if trial.state.name != "COMPLETE" or (folder / "model.safetensors").exists():
                continue
            state = checkpoint.load(folder)
            if state is not None:
                about = {"trial": trial.user_attrs["of"], "trained_on": "training and validation images"}
                config = from_json(trial.user_attrs["config"])
                save_model(folder, prepared, state, config=config, about=about)


def _scored(driver: Driver) -> list[FrozenTrial]:
    """Trials with a score, best first."""
    return [trial for rank, trial in ranked(driver.search.study) if rank is not None]


def _baselines(scored: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in scored if trial.user_attrs.get("baseline")]


def _epochs(driver: Driver) -> int:
    return driver.prepared.task.max_epochs


def _asked(driver: Driver, scored: Sequence[FrozenTrial]) -> Finish:
    settings = driver.prepared.settings
    return Finish(min(settings.confirm_top, len(scored)), settings.confirm_seeds)


def _phases(driver: Driver, plan: Finish) -> list[list[Rerun]]:
    """The trainings of both studies; the slowest of those confirmed stands for the winner."""
    scored, epochs = _scored(driver), _epochs(driver)
    if not plan.top:
        return []
    confirm = reruns(scored[: plan.top], plan.seeds, epochs)
    slowest = max(confirm, key=lambda training: training.seconds)
    return [confirm, [slowest] * plan.seeds + reruns(_baselines(scored), 1, epochs)]


def _fits(driver: Driver, phases: Sequence[Sequence[Rerun]]) -> bool:
    budgets, slots = driver.budgets, driver.prepared.slots
    wall = sum(wall_seconds(phase, slots.count) for phase in phases)
    busy = slots.gpus * sum(busy_seconds(phase) for phase in phases)
    return (budgets.seconds is None or budgets.spent_seconds + wall <= budgets.seconds) and (
        budgets.gpu_seconds is None or budgets.spent_gpu_seconds + busy <= budgets.gpu_seconds
    )


def _seeds(count: int) -> str:
    return "one new seed" if count == 1 else f"{count} new seeds"
