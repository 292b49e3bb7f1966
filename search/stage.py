"""A study of trainings that are all known beforehand: the confirm runs of a search, or the refits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from search.controller import Controller, Plan
from search.drive import Driver, Job, score_of
from search.final import CONFIRM, stage_checkpoints
from search.kept import keep_refitted
from search.record import open_record
from search.reruns import Rerun
from search.sampler import samplers
from trainables.config import to_json
from trainables.data import merged
from trainables.seeding import derive_seed

if TYPE_CHECKING:
    from search.engine import StopReason
    from trainables.place import Folder


class Stage:
    """One of the two studies that follow a search. To be closed."""

    def __init__(self, driver: Driver, kind: Literal["confirm", "refit"]) -> None:
        self.driver, self.kind = driver, kind
        prepared = driver.prepared
        name, settings = f"{driver.search.study.study_name}/{kind}", prepared.settings
        if kind == CONFIRM:
            metric = f"validation {settings.metric}"
            self.record = open_record(prepared, name, settings.direction, metric)
        else:
            self.record = open_record(prepared, name, "minimize", "training loss")
        for trial in self.record.trials():
            if trial.state.is_finished():
                self._ended(trial.number)  # where an earlier driver was killed before it could

    def close(self) -> None:
        """Write everything and let the record go."""
        self.record.close()

    def missing(self, trainings: Sequence[Rerun]) -> list[Rerun]:
        """Those that have not ended yet."""
        done = {self._key(trial.number) for trial in self.record.trials() if trial.state.is_finished()}
        return [training for training in trainings if training.key not in done]

    def drive(self, trainings: Sequence[Rerun], message: str) -> StopReason:
        """Do what is missing of these trainings; `message` is said where anything is."""
        self._drop_others(trainings)
        if not self.missing(trainings):
            return "finished"
        self.driver.say(message)
        return self.driver.drive(self._job(trainings))

    def _drop_others(self, trainings: Sequence[Rerun]) -> None:
        """End what an earlier sitting began and nobody wants any more; wanted again, it begins anew."""
        wanted = {training.key for training in trainings}
        for trial in self.record.trials():
            key = self._key(trial.number)
            if not trial.state.is_finished() and key not in wanted:
                self.record.note(trial.number, {"baseline": f"{key}, dropped", "seed": -1})
                self.record.tell(trial.number, "pruned")
                self.driver.mirror.drop(self._folder(trial.number))

    def _job(self, trainings: Sequence[Rerun]) -> Job:
        prepared = self.driver.prepared
        settings, task = prepared.settings, prepared.task
        known = {self._key(trial.number) for trial in self.record.trials()}
        new = [training for training in trainings if training.key not in known]
        controller = Controller(
            self.record,
            Plan(
                min_epochs=task.max_epochs,
                max_epochs=task.max_epochs,
                reduction_factor=settings.reduction_factor,
                rule="none",
                trials=len(known) + len(new),
                retries=settings.retries,
                known_only=True,
            ),
            suggest=lambda trial: prepared.space.suggest(trial, task),
            sampler=samplers("random", settings.seed),  # proposes nothing
            limit=lambda config: (None, {"config": to_json(config)}),
            baselines={training.key: training.params for training in new},
            about={
                training.key: {"of": training.of, "seed": training.seed, "name": training.name}
                for training in new
            },
        )
        return Job(
            label=self.kind,
            record=self.record,
            controller=controller,
            dataset=prepared.dataset if self.kind == CONFIRM else merged(prepared.dataset),
            task=task,
            metric=settings.metric if self.kind == CONFIRM else "loss",
            score=score_of(settings.metric) if self.kind == CONFIRM else lambda row: float(row["train_loss"]),
            seed=lambda number: derive_seed(settings.seed, self.kind, self._key(number)),
            folder=self._folder,
            in_full=True,
            on_end=self._ended,
        )

    def _key(self, number: int) -> str:
        """What a training is called."""
        return str(self.record.trial(number).user_attrs.get("baseline", ""))

    def _folder(self, number: int) -> Folder:
        return stage_checkpoints(self.driver.prepared.folder, self.kind, number)

    def _ended(self, number: int) -> None:
        if self.kind != CONFIRM:
            keep_refitted(self.driver.prepared, self.record.trial(number))
        self.driver.mirror.drop(self._folder(number))
