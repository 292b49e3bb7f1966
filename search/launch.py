"""From a prepared search to its results: the controller, its record and the engine put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.command_line import resume_command
from search.controller import Controller, Plan
from search.copies import make_room
from search.database import reason
from search.drive import Driver, Job, score_of
from search.engine import StopReason
from search.final import PLAN
from search.finish import finish, keep_for_finish
from search.kept import KEEP_BEST, CheckpointKeeper, keep_best_model
from search.mirror import Mirror
from search.paced import Paced
from search.preflight import Prepared
from search.record import search_record
from search.results import Results, make_folder, write_settings, write_tables
from search.resume import DriverLock, hashes
from search.sampler import samplers
from search.study import StudyRecord
from trainables.config import to_json
from trainables.models.size import count_macs, count_parameters
from trainables.seeding import derive_seed
from trainables.storage import StorageError, TakenOverError, writing

if TYPE_CHECKING:
    from rich.console import Console

    from search.cluster import Cluster


def search(
    prepared: Prepared, console: Console, *, resume: bool = False, cluster: Cluster | None = None
) -> Results:
    """Run a prepared search to its end, whatever ends it, and write everything that it leaves.

    Ray must have been started, or joined where there is a `cluster`. `resume` goes on with what the run
    folder holds; otherwise the folder must not be there yet.
    Raises what stopped it where that was no trial's own failure; what was recorded until then is kept.
    That is StorageError, with the way to go on, where the disk of the run folder was full or failing, or
    the study's database was.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    folder = prepared.folder.location
    try:
        with writing(folder):
            try:
                return _search(prepared, console, cluster, resume=resume)
            except (SQLAlchemyError, StorageInternalError) as error:
                if prepared.settings.study_storage == "auto":
                    raise  # a file: `writing` knows what a full disk looks like
                raise StorageError(f"the study cannot be written: {reason(error)}") from error
    except TakenOverError:
        raise
    except StorageError as error:
        raise StorageError(
            f"{error}; the search has stopped and its record is whole: when that is put right, go on with "
            f"`{resume_command(folder, prepared.settings)}`"
        ) from error


def _search(prepared: Prepared, console: Console, cluster: Cluster | None, *, resume: bool) -> Results:
    folder = prepared.folder
    known = hashes(prepared.space.module, prepared.dataset, prepared.task.weights)
    if not resume:
        make_room(folder)
        make_folder(prepared, known)
    lock = DriverLock(folder)
    lock.take()
    mirror = Mirror(folder, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
    try:
        if resume:
            write_settings(prepared, known, folder)
        lock.drivers = folder.drivers
        record = search_record(prepared, resume=resume)
        taken_over = False
        try:
            mirror.begin()
            _run(
                Driver(prepared, record, console, lock, mirror, cluster=cluster),
                _controller(prepared, record),
            )
        except TakenOverError:
            taken_over = True
            raise
        finally:
            record.close()
            results = Results(folder)
            if not taken_over:
                write_tables(results, prepared.settings.top)
                keep_best_model(prepared, results)
    finally:
        lock.release()
        mirror.close()
    return results


def _run(driver: Driver, controller: Controller) -> None:
    """The search and what follows it, until something ends them; note what that was."""
    stopped = "failed"
    try:
        stopped = _drive_search(driver, controller)
        if stopped not in ("interrupted", "failed") and driver.prepared.settings.confirm:
            ended = finish(driver)
            stopped = stopped if ended == "finished" else ended
    except KeyboardInterrupt:  # between two studies; within one it is the engine that stops
        stopped = "interrupted"
    finally:
        driver.search.set_attributes({"stopped": stopped})
    if stopped == "finished" and not driver.drove:
        driver.console.print("nothing is left to do: the search has finished", highlight=False)


def _drive_search(driver: Driver, controller: Controller) -> StopReason:
    prepared, record = driver.prepared, driver.search
    settings, folder = prepared.settings, prepared.folder
    if controller.finished:
        controller.finish()  # where an earlier driver was killed before it could
    keeper = CheckpointKeeper(folder, controller, max(KEEP_BEST, settings.confirm_top), driver.mirror.drop)
    if controller.finished:
        return "finished"
    looked_at = -1
    look, tidy = Paced(least=0.0), Paced(least=60.0)

    def keep() -> None:
        nonlocal looked_at
        if settings.confirm and looked_at != controller.epochs:
            looked_at = controller.epochs
            keep_for_finish(driver, controller)

    def each_second() -> None:
        look.run(keep)
        tidy.run(keeper.out_of_reach)

    keep()
    used_up = driver.budgets.used_up(controller.epochs)
    if used_up is not None:
        driver.console.print(
            f"nothing more is searched: the {used_up} is used up or kept for later; give more to go on",
            highlight=False,
        )
        return used_up
    record.set_attributes({PLAN: None})  # what an earlier sitting confirmed may not be the best any more
    return driver.drive(
        Job(
            label="",
            record=record,
            controller=controller,
            dataset=prepared.dataset,
            task=prepared.task,
            metric=settings.metric,
            score=score_of(settings.metric),
            seed=lambda number: derive_seed(settings.seed, "trial", number),
            folder=folder.trial,
            on_end=keeper.ended,
            on_second=each_second,
        )
    )


def _controller(prepared: Prepared, record: StudyRecord) -> Controller:
    settings, task = prepared.settings, prepared.task

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
            trials=None if settings.trials == "auto" else settings.trials,
            retries=settings.retries,
        ),
        suggest=lambda trial: prepared.space.suggest(trial, task),
        sampler=samplers(settings.sampler, settings.seed),
        limit=limit,
        baselines={**prepared.baselines, **record.study.user_attrs.get("first", {})},
    )
