"""An engine that trains nothing: a script says what becomes of each epoch, so that a whole run takes moments.

Everything else of a run is real: command, folder, studies, checkpoints, models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import search.drive
import search.early_ray
import search.run
from search.controller import Work
from trainables import checkpoint
from trainables.stint import Stint

Script = Callable[[str, int], float | str]
"""Of a study (`trials`, `confirm` or `refit`) and the search's trial that is trained: the score of an epoch,
or `infeasible`, `error`, `lost` (with its worker), `stop` (as Ctrl-C), `budget` (the time is up) or `killed`
(a SystemExit at once)."""


class ScriptedEngine:
    script: Script

    def __init__(
        self,
        controller,
        slots,
        trainable,
        make_stint,
        score,
        *,
        room,
        storage_faults,
        budgets,
        say,
        on_step,
        on_end,
    ):
        self.controller, self.make_stint, self.score = controller, make_stint, score
        self.validates = trainable
        self.budgets, self.on_step, self.on_end = budgets, on_step, on_end
        self.stop_requested = threading.Event()

    def run(self) -> str:
        while not self.controller.finished:
            work = self.controller.next_work()
            if work is None:
                continue
            ended = self.train(work, self.make_stint(work))
            if ended:
                return ended
            used_up = self.budgets.used_up(self.controller.epochs)
            if used_up:
                return used_up
        for number in self.controller.finish():
            self.on_end(number)
        return "finished"

    def train(self, work: Work, stint: Stint) -> str:
        kind = stint.folder.parent.name
        of = self.controller.record.trial(work.trial).user_attrs.get("of", work.trial)
        for epoch in range(work.known_epochs + 1, stint.task.max_epochs + 1):
            what = type(self).script(kind, of)
            if what == "stop":
                return "interrupted"
            if what == "killed":
                raise SystemExit(9)
            if what == "budget":
                self.budgets.spent_seconds = self.budgets.seconds + 1
                return "time budget"
            if what in ("infeasible", "error", "lost"):
                self.controller.ended(work.trial, **{what: "as the script says"})
                if work.trial not in self.controller.live:
                    self.on_end(work.trial)
                return ""
            if not self.epoch(work, stint, epoch, float(what)):
                break
        return ""

    def epoch(self, work: Work, stint: Stint, epoch: int, score: float) -> bool:
        self.budgets.spent_seconds += 1.0
        measured = score if self.validates else None
        row = {
            "epoch": epoch,
            "train_loss": 1 - score,
            "train_accuracy": score,
            "val_loss": None if measured is None else 1 - measured,
            "val_accuracy": measured,
            "val_macro_f1": measured,
            "learning_rate": 0.1,
            "images_per_second": 1.0,
            "seconds": 1.0,
            "validation_seconds": 0.0,
        }
        state = {"epoch": epoch}
        weights = stint.config.model.build(stint.task).state_dict()
        content = {"identity": stint.identity, "training": state, "scored": weights, "reports": [row]}
        checkpoint.save(stint.folder, stint.stint, content)
        goes_on = self.controller.report(work.trial, row, self.score(row))
        self.on_step()
        if work.trial not in self.controller.live:
            if type(self).script(f"after {stint.folder.parent.name}", work.trial) == "killed":
                raise SystemExit(9)
            self.on_end(work.trial)
        return goes_on


@contextmanager
def no_ray(*_: Any, **__: Any) -> Iterator[Callable[[], None]]:
    yield lambda: None


def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Have every run from now on do as a script says, the one that the returned function was last given."""
    monkeypatch.setattr(search.drive, "Engine", ScriptedEngine)
    # a script's seconds are the only ones
    monkeypatch.setattr(search.drive.Budgets, "tick", lambda self, now, gpus: None)
    # stands for what trains: whether there is anything to validate on
    monkeypatch.setattr(search.drive, "make_trainable", lambda slots, dataset, **_: len(dataset.val) > 0)
    monkeypatch.setattr(search.early_ray, "early_ray", no_ray)
    monkeypatch.setattr(search.run, "_write_report", lambda results, console: None)

    def follow(script: Script) -> None:
        monkeypatch.setattr(ScriptedEngine, "script", staticmethod(script), raising=False)

    return follow
