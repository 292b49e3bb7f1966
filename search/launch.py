"""From a prepared search to its results: the controller, its record and the engine put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search.budgets import Budgets
from search.command_line import resume_command
from search.controller import Controller, Plan, Work
from search.database import reason, remove_study, sqlite_url
from search.engine import Engine, ship
from search.interrupts import interrupts
from search.preflight import Prepared
from search.progress import Progress
from search.results import (
    CheckpointKeeper,
    Results,
    has_begun,
    keep_best_model,
    make_folder,
    study_name,
    write_settings,
    write_tables,
)
from search.resume import DriverLock, hashes, own_modules
from search.sampler import samplers
from search.study import BEGUN, StudyRecord
from trainables.checkpoint import code_hash, identity
from trainables.config import to_json
from trainables.models.size import count_macs, count_parameters
from trainables.seeding import derive_seed
from trainables.stint import Stint
from trainables.storage import StorageError, writing

if TYPE_CHECKING:
    from rich.console import Console

SPENT_SECONDS = 1.0
"""Time between two notes of what is spent; a crash loses no more of it."""
SCORE_OF = {"accuracy": "val_accuracy", "macro_f1": "val_macro_f1", "loss": "val_loss"}


def search(
    prepared: Prepared, console: Console, ray_is_up: Callable[[], None], *, resume: bool = False
) -> Results:
    """Run a prepared search to its end, whatever ends it, and write everything that it leaves.

    `ray_is_up` returns when there is a Ray to run it on. `resume` goes on with what the run folder holds;
    otherwise the folder must not be there yet.
    Raises what stopped it where that was no trial's own failure; what was recorded until then is kept.
    That is StorageError, with the way to go on, where the disk of the run folder was full or failing, or
    the study's database was.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    folder = prepared.folder.path
    try:
        with writing(folder):
            try:
                return _search(prepared, console, ray_is_up, resume=resume)
            except (SQLAlchemyError, StorageInternalError) as error:
                if prepared.settings.study_storage == "auto":
                    raise  # a file: `writing` knows what a full disk looks like
                raise StorageError(f"the study cannot be written: {reason(error)}") from error
    except StorageError as error:
        raise StorageError(
            f"{error}; the search has stopped and its record is whole: when that is put right, go on with "
            f"`{resume_command(folder)}`"
        ) from error


def _search(prepared: Prepared, console: Console, ray_is_up: Callable[[], None], *, resume: bool) -> Results:
    folder = prepared.folder
    known = hashes(prepared.space.module, prepared.dataset)
    if not resume:
        make_folder(prepared, known)
    lock = DriverLock(folder)
    lock.take()
    try:
        if resume:
            write_settings(prepared, known, folder)
        record = _record(prepared, resume=resume)
        try:
            controller = _controller(prepared, record)
            if controller.finished:
                controller.finish()  # where an earlier driver was killed before it could
                record.set_attributes({"stopped": "finished"})
                CheckpointKeeper(folder, controller)
                console.print("nothing is left to do: the search has finished", highlight=False)
            else:
                _run(prepared, record, controller, console, lock=lock, ray_is_up=ray_is_up)
        finally:
            record.close()
            results = Results(folder.path)
            write_tables(folder, results.study, prepared.settings.top)
            keep_best_model(prepared, results)
    finally:
        lock.release()
    return results


def _run(
    prepared: Prepared,
    record: StudyRecord,
    controller: Controller,
    console: Console,
    *,
    lock: DriverLock,
    ray_is_up: Callable[[], None],
) -> None:
    """Run the controller's work on Ray until something ends it, and note what that was."""
    settings = prepared.settings
    known = record.study.user_attrs  # what is spent is counted over all sittings
    budgets = Budgets(
        seconds=settings.budget_seconds(),
        epochs=settings.total_epochs,
        gpu_seconds=None if settings.gpu_hours is None else 3600 * settings.gpu_hours,
        spent_seconds=float(known.get("seconds", 0.0)),
        spent_gpu_seconds=float(known.get("gpu_seconds", 0.0)),
    )
    used_up = budgets.used_up(controller.epochs)
    if used_up is not None:
        console.print(f"nothing is trained: the {used_up} is used up; give more to go on", highlight=False)
        return
    progress = Progress(console, controller, settings.metric, budgets, quiet=settings.quiet)
    keeper = CheckpointKeeper(prepared.folder, controller)

    def spent() -> dict[str, float]:
        return {"seconds": budgets.spent_seconds, "gpu_seconds": budgets.spent_gpu_seconds}

    written = time.monotonic()

    def on_step() -> None:
        nonlocal written
        record.flush()
        if time.monotonic() - written >= SPENT_SECONDS:
            record.set_attributes(spent())
            written = time.monotonic()
        lock.beat()
        progress.update()

    modules = own_modules(prepared.space.module)
    ship(modules)
    engine = Engine(
        controller,
        prepared.slots,
        prepared.dataset,
        _StintMaker(prepared, controller, modules),
        lambda row: float(row[SCORE_OF[settings.metric]]),
        device=settings.device,
        budgets=budgets,
        on_step=on_step,
        on_end=keeper.ended,
    )
    stopped = "failed"
    ray_is_up()
    budgets.tick(time.monotonic(), 0.0)
    try:
        with interrupts(engine, progress.say), progress:
            stopped = engine.run()
    finally:
        record.set_attributes({"stopped": stopped, **spent()})


def _study_url(prepared: Prepared) -> str:
    url = prepared.settings.study_storage
    return sqlite_url(prepared.folder.database) if url == "auto" else url


def _record(prepared: Prepared, *, resume: bool) -> StudyRecord:
    """What is on record already, or a new record: also where an earlier driver was killed making it."""
    folder, url = prepared.folder, _study_url(prepared)
    name = study_name(folder) or folder.path.name
    if resume and has_begun(folder, prepared.settings.study_storage):
        return StudyRecord.reopen(url, name)
    if resume:
        remove_study(url, name)
    record = StudyRecord(name, prepared.settings.direction, url)
    record.set_attributes(
        {
            "run": name,
            "space": prepared.space.name,
            "dataset": prepared.dataset.name,
            "note": prepared.dataset.note,
            "metric": prepared.settings.metric,
            "first": prepared.transfer.first,
        }
    )
    record.add_imported(prepared.transfer.trials)
    record.set_attributes({BEGUN: True})
    return record


def _controller(prepared: Prepared, record: StudyRecord) -> Controller:
    settings, task = prepared.settings, prepared.task
    assert isinstance(settings.trials, int)

    def limit(config: Any) -> tuple[str | None, Mapping[str, Any]]:
        parameters = count_parameters(config.model, task)
        facts = {"network_parameters": parameters, "config": to_json(config)}
        if settings.max_params is not None and parameters > settings.max_params:
            return f"{parameters:,} parameters are more than --max-params {settings.max_params:,}", facts
        if isinstance(settings.max_macs, int):
            macs = count_macs(config.model, task)
            facts["macs"] = macs
            if macs > settings.max_macs:
                return (
                    f"{macs:,} multiply-adds an image are more than --max-macs {settings.max_macs:,}",
                    facts,
                )
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
        sampler=samplers(settings.sampler, settings.seed),
        limit=limit,
        baselines={**prepared.baselines, **record.study.user_attrs.get("first", {})},
    )


class _StintMaker:
    """Turns the controller's work into a worker's order."""

    def __init__(self, prepared: Prepared, controller: Controller, modules: list[ModuleType]) -> None:
        self.prepared = prepared
        self.rungs = tuple(rung.level for rung in controller.ladder.rungs)
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
