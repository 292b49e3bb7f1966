"""What a run keeps of its networks: checkpoints that can still be used, and the models in `best/`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.final import REFIT, final_models, final_study, stage_checkpoints, stage_folder
from search.results import Results, RunFolder
from spaces import SPACES
from trainables import checkpoint
from trainables.classifier import save_classifier
from trainables.config import from_json

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.controller import Controller
    from search.preflight import Prepared
    from trainables.place import Folder

KEEP_BEST = 3
SPARE = 20
"""Places of a rung, beyond twice those that go on, within which a trial keeps its checkpoints."""


class CheckpointKeeper:
    """Deletes the checkpoints of trials that have ended and are not among the best few of those, and of those
    that wait at a rung too far down to go on.

    When it is made, also those of ended trials that an earlier driver left because it was killed.
    """

    def __init__(
        self,
        folder: RunFolder,
        controller: Controller,
        count: int = KEEP_BEST,
        drop: Callable[[Folder], None] = checkpoint.remove,
    ) -> None:
        """`drop` deletes the checkpoints in a trial's folder, now or later."""
        self.folder, self.controller, self.count, self.drop = folder, controller, count, drop
        there = {int(name) for name in checkpoint.holders(folder.trial(0).parent) if name.isdecimal()}
        ended = [number for number in range(controller.asked) if number not in controller.live]
        self.kept = controller.ranking(ended)[: self.count]
        # what is there of numbers that the record does not know may be those of trials to come
        for dropped in (there & set(ended)) - set(self.kept):
            self.drop(folder.trial(dropped))
        self._without = {(n, trial.epochs) for n, trial in controller.live.items() if n not in there}

    def ended(self, number: int) -> None:
        """Take note that a trial has ended."""
        candidates = [*self.kept, number]
        self.kept = self.controller.ranking(candidates)[: self.count]
        for dropped in set(candidates) - set(self.kept):
            self.drop(self.folder.trial(dropped))

    def out_of_reach(self) -> None:
        """Delete checkpoints of trials that wait and have many better ones before them.

        A search without end would fill any disk with them. One that goes on all the same trains anew.
        """
        ladder = self.controller.ladder
        for rung in ladder.rungs[:-1]:
            for number in rung.ranked_below(2 * len(rung.scores) // ladder.reduction_factor + SPARE):
                trial = self.controller.live.get(number)
                if trial is None or trial.state != "waiting" or trial.epochs != rung.level:
                    continue
                if (number, rung.level) not in self._without:
                    self._without.add((number, rung.level))
                    self.drop(self.folder.trial(number))


def keep_best_model(prepared: Prepared, results: Results) -> None:
    """Write best/: the winner's first final model, or else what the search left of its best trial.

    Nothing where no trial has a score.
    """
    refits = final_study(results, REFIT)
    for trial in [] if refits is None else refits.get_trials(deepcopy=False):
        keep_refitted(prepared, trial)  # where an earlier driver was killed before it could
    winner = next((model for model in final_models(results) if model.winner), None)
    if winner is not None and winner.folder != results.folder.best:
        _copy_model(winner.folder, results.folder.best)
        return
    first = [one.trial for one in results.confirmed[:1]]
    # a trial that was cut off may be the best and have no checkpoint yet: then it is the next best
    for number in [*first, *results.trials.dropna(subset="score")["trial"].tolist()]:
        state = checkpoint.load(results.folder.trial(number))
        if state is not None:
            about = {"trial": number, "validation": state["reports"][-1]}
            trial = results.study.get_trials(deepcopy=False)[number]
            save_model(results.folder.best, prepared, state, trial, about)
            return


def keep_refitted(prepared: Prepared, trial: FrozenTrial) -> None:
    """Write the model of a trial of the study `NAME/refit`, if it is complete and that was not done yet."""
    folder = stage_folder(prepared.folder, REFIT, trial.number)
    if trial.state.name != "COMPLETE" or (folder / "model.safetensors").exists():
        return
    state = checkpoint.load(stage_checkpoints(prepared.folder, REFIT, trial.number))
    if state is not None:
        about = {"trial": trial.user_attrs["of"], "trained_on": "training and validation images"}
        save_model(folder, prepared, state, trial, about)


def _copy_model(source: Path, target: Path) -> None:
    """Copy a model's folder; while it lasts there is no model rather than one of two halves."""
    target.mkdir(exist_ok=True)
    (target / "model.safetensors").unlink(missing_ok=True)
    shutil.copyfile(source / "config.json", target / "config.json")
    temporary = target / "model.safetensors.tmp"
    shutil.copyfile(source / "model.safetensors", temporary)
    temporary.replace(target / "model.safetensors")


def save_model(
    folder: Path,
    prepared: Prepared,
    state: Mapping[str, Any],
    trial: FrozenTrial,
    about: Mapping[str, Any],
) -> None:
    """Write the network in the `state` of a trial's checkpoint as a folder that `load_classifier` reads."""
    save_classifier(
        folder,
        state["scored"],
        config=from_json(trial.user_attrs["config"], own=prepared.space.name not in SPACES),
        task=prepared.task,
        class_names=prepared.dataset.class_names,
        mean=prepared.dataset.mean,
        std=prepared.dataset.std,
        about={
            "run": prepared.folder.path.name,
            "dataset": prepared.dataset.name,
            "note": prepared.dataset.note,
            "epochs": state["training"]["epoch"],
            "metric": prepared.settings.metric,
            **about,
        },
    )
