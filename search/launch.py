"""From a prepared search to its results: the controller, its record and the engine put together."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search.controller import Controller, Plan, Work
from search.engine import Engine, interrupts, local_ray, ship
from search.preflight import Prepared
from search.progress import Progress
from search.results import KEEP_BEST, Results, drop_checkpoints, keep_best_model, write_settings, write_tables
from search.sampler import make_sampler
from search.study import StudyRecord, sqlite_url
from trainables.checkpoint import code_hash, identity
from trainables.config import to_json
from trainables.models.size import count_parameters
from trainables.seeding import derive_seed
from trainables.stint import Stint

if TYPE_CHECKING:
    from rich.console import Console

SCORE_OF = {"accuracy": "val_accuracy", "macro_f1": "val_macro_f1", "loss": "val_loss"}


def search(prepared: Prepared, console: Console) -> Results:
    """Run a prepared search to its end, whatever ends it, and write everything that it leaves.

    Raises what stopped it where that was no stint's own failure; what was recorded until then is kept.
    """
    settings, folder = prepared.settings, prepared.folder
    started = time.monotonic()
    budget = settings.budget_seconds()
    write_settings(prepared)
    record = _open_record(prepared)
    controller = _controller(prepared, record)
    progress = Progress(console, controller, settings.metric, budget, quiet=settings.quiet)

    def on_step() -> None:
        record.flush()
        progress.update()

    def on_end(number: int) -> None:
        kept = set(controller.ranking()[:KEEP_BEST]) | set(controller.live)
        drop_checkpoints(folder, set(range(controller.asked)) - kept)

    modules = _own_modules(prepared.space.module)
    engine = Engine(
        controller,
        prepared.slots,
        prepared.dataset,
        _StintMaker(prepared, controller, modules),
        lambda row: float(row[SCORE_OF[settings.metric]]),
        device=settings.device,
        deadline=None if budget is None else started + budget,
        on_step=on_step,
        on_end=on_end,
    )
    ship(modules)
    stopped = "failed"
    try:
        with (
            local_ray(prepared.slots, _data_bytes(prepared), dashboard=settings.dashboard),
            interrupts(engine, progress.say),
            progress,
        ):
            stopped = engine.run()
    finally:
        record.set_attributes({"stopped": stopped})
        record.close()
        results = Results(folder.path)
        write_tables(folder, results.study, settings.top)
        keep_best_model(prepared, results)
    return results


def _open_record(prepared: Prepared) -> StudyRecord:
    name = prepared.folder.path.name
    record = StudyRecord(name, prepared.settings.direction, sqlite_url(prepared.folder.database))
    record.set_attributes(
        {
            "run": name,
            "space": prepared.space.name,
            "dataset": prepared.dataset.name,
            "note": prepared.dataset.note,
            "metric": prepared.settings.metric,
            "data_fingerprint": prepared.dataset.fingerprint,
        }
    )
    return record


def _controller(prepared: Prepared, record: StudyRecord) -> Controller:
    settings, task = prepared.settings, prepared.task
    assert isinstance(settings.trials, int)

    def limit(config: Any) -> tuple[str | None, Mapping[str, Any]]:
        parameters = count_parameters(config.model, task)
        facts = {"network_parameters": parameters, "config": to_json(config)}
        most = settings.max_params
        if most is not None and parameters > most:
            return f"{parameters:,} parameters are more than --max-params {most:,}", facts
        return None, facts

    return Controller(
        record,
        Plan(
            min_epochs=settings.min_epochs,
            max_epochs=task.max_epochs,
            reduction_factor=settings.reduction_factor,
            rule=settings.asha,
            trials=settings.trials,
            retries=settings.retries,
        ),
        suggest=lambda trial: prepared.space.suggest(trial, task),
        sampler=lambda number: make_sampler(settings.sampler, settings.seed, number),
        limit=limit,
        baselines=prepared.baselines,
    )


class _StintMaker:
    """Turns the controller's work into a worker's order."""

    def __init__(self, prepared: Prepared, controller: Controller, modules: list[ModuleType]) -> None:
        self.prepared = prepared
        self.rungs = tuple(rung.level for rung in controller.rungs)
        self.code = code_hash(*modules)

    def __call__(self, work: Work) -> Stint:
        prepared, settings = self.prepared, self.prepared.settings
        return Stint(
            trial=work.trial,
            stint=work.stint,
            config=work.config,
            task=prepared.task,
            seed=derive_seed(settings.seed, "trial", work.trial),
            known_epochs=work.known_epochs,
            checkpoint_epochs=self.rungs,
            checkpoint_seconds=settings.checkpoint_seconds,
            folder=prepared.folder.trial(work.trial).resolve(),
            identity=identity(work.config, prepared.task, prepared.dataset.fingerprint, self.code),
            precision=settings.precision,
        )


def _data_bytes(prepared: Prepared) -> int:
    parts = (prepared.dataset.train, prepared.dataset.val)
    return sum(part.images.nbytes + part.labels.nbytes for part in parts)


def _own_modules(space: str) -> list[ModuleType]:
    """The modules of a user's own space: its module, and what it imports from its own package."""
    root = space.partition(".")[0]
    if root in ("spaces", "trainables", "search"):
        return []
    names = sorted(name for name in sys.modules if name == root or name.startswith(f"{root}."))
    return [sys.modules[name] for name in names]
