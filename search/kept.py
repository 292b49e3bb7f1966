"""What a run keeps of its networks: checkpoints that can still be used, and the models in `best/`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.final import final_models
from search.results import Results, RunFolder
from trainables import checkpoint
from trainables.classifier import save_classifier
from trainables.config import TrialConfig

if TYPE_CHECKING:
    from search.controller import Controller
    from search.preflight import Prepared

KEEP_BEST = 3


class CheckpointKeeper:
    """Deletes the checkpoints of trials that have ended and are not among the best few of those.

    When it is made, also those that an earlier driver left because it was killed.
    """

    def __init__(self, folder: RunFolder, controller: Controller, count: int = KEEP_BEST) -> None:
        self.folder, self.controller, self.count = folder, controller, count
        ended = [number for number in range(controller.asked) if number not in controller.live]
        self.kept = controller.ranking(ended)[: self.count]
        for dropped in set(ended) - set(self.kept):
            checkpoint.remove(folder.trial(dropped))

    def ended(self, number: int) -> None:
        """Take note that a trial has ended."""
        candidates = [*self.kept, number]
        self.kept = self.controller.ranking(candidates)[: self.count]
        for dropped in set(candidates) - set(self.kept):
            checkpoint.remove(self.folder.trial(dropped))


def keep_best_model(prepared: Prepared, results: Results) -> None:
    """Write best/: the winner's first final model, or else what the search left of its best trial.

    Nothing where no trial has a score.
    """
    model = next(iter(final_models(results)), None)
    if model is not None and model.folder != results.folder.best:
        results.folder.best.mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors"):  # the model last: with it the folder is whole
            temporary = results.folder.best / f"{name}.tmp"
            shutil.copyfile(model.folder / name, temporary)
            temporary.replace(results.folder.best / name)
        return
    first = [one.trial for one in results.confirmed[:1]]
    # a trial that was cut off may be the best and have no checkpoint yet: then it is the next best
    for number in [*first, *results.trials.dropna(subset="score")["trial"].tolist()]:
        state = checkpoint.load(results.folder.trial(number))
        if state is not None:
            about = {"trial": number, "validation": state["reports"][-1]}
            config = results.config_of(number)
            save_model(results.folder.best, prepared, state, config=config, about=about)
            return


def save_model(
    folder: Path,
    prepared: Prepared,
    state: Mapping[str, Any],
    *,
    config: TrialConfig,
    about: Mapping[str, Any],
) -> None:
    """Write the network in a checkpoint's `state` as a folder that `load_classifier` reads."""
    save_classifier(
        folder,
        state["scored"],
        config=config,
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
