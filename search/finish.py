"""The honest finish: the best configurations are confirmed with new seeds, and the winner is refitted.

Both are studies of their own in the run's database, `NAME/confirm` and `NAME/refit`, driven and resumed as
the search is and never seen by its sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from search.controller import Controller
from search.drive import Driver
from search.final import CONFIRM, PLAN, REFIT, confirmed, final_models, plan_of
from search.formats import counted
from search.reruns import Finish, Rerun, busy_seconds, reruns, unlike, wall_seconds
from search.results import Results
from search.stage import Stage
from search.tables import ranked
from trainables.compiling import EXPECTED_SECONDS, SIZES

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.engine import StopReason

MOST_SHARE, LAST_SHARE = 0.5, 2 / 3
"""Of a time budget, or of GPU-hours, that is kept for what follows the search, and where nothing could be
confirmed for that."""


def keep_for_finish(driver: Driver, controller: Controller) -> None:
    """Keep back of the budgets what confirming and refitting will take, as far as is known by now.

    Nothing where that would be more than `LAST_SHARE`, however little is confirmed.
    """
    budgets, asked = driver.budgets, _asked(driver)
    if budgets.seconds is None and budgets.gpu_seconds is None:
        return
    # a few more than are needed, for some may be alike
    scored = [driver.search.trial(number) for number in controller.leading(2 * asked.top)]
    known = [driver.search.trial(number) for number in controller.baselines]

    def largest(share: float, others: Sequence[FrozenTrial], refit: bool) -> Finish:
        seconds = None if budgets.seconds is None else share * budgets.seconds
        gpu_seconds = None if budgets.gpu_seconds is None else share * budgets.gpu_seconds
        return replace(asked, refit=refit).largest(
            lambda less: _fits(driver, _phases(driver, less, scored, others), seconds, gpu_seconds)
        )

    # rather without the baselines than not at all, then for more of the budget, then without a refit
    ways: tuple[tuple[float, Sequence[FrozenTrial], bool], ...] = (
        (MOST_SHARE, known, True),
        (MOST_SHARE, [], True),
        (LAST_SHARE, [], True),
        (LAST_SHARE, [], False),
    )
    for share, others, refit in ways:
        plan = largest(share, others, refit)
        if plan.top:
            break
    phases = _phases(driver, plan, scored, others)
    budgets.kept_seconds = _wall(driver, phases)
    budgets.kept_gpu_seconds = _busy(driver, phases)


def finish(driver: Driver) -> StopReason:
    """Confirm and refit what the search found, as far as the budgets allow; returns what ended it.

    What an earlier sitting did of it is not done again.
    """
    budgets = driver.budgets
    budgets.epochs = None  # it bounds the search alone
    budgets.kept_seconds = budgets.kept_gpu_seconds = 0.0
    scored = [trial for rank, trial in ranked(driver.search.study) if rank is not None]
    if not scored:
        return "finished"
    with closing(Stage(driver, CONFIRM)) as confirm, closing(Stage(driver, REFIT)) as refit:
        stopped = _confirm(driver, confirm, scored)
        return _refit(driver, refit, scored) if stopped == "finished" else stopped


def _confirm(driver: Driver, stage: Stage, scored: Sequence[FrozenTrial]) -> StopReason:
    def fits(less: Finish) -> bool:
        confirm, refit = _phases(driver, less, scored, [])
        missing = stage.missing(confirm)
        return not missing or _fits(driver, [missing, refit], *_left(driver))

    asked = _asked(driver)
    asked = Finish(min(asked.top, len(unlike(scored, asked.top))), asked.seeds)
    plan = asked.largest(fits)
    if not plan.top:
        plan = replace(asked, refit=False).largest(fits)
    if not plan.top:
        driver.say("too little is left of the budget to confirm anything")
        return driver.budgets.reason()
    trials = unlike(scored, plan.top)
    driver.search.set_attributes({PLAN: plan_of([trial.number for trial in trials], plan.seeds)})
    smaller = "" if (plan.top, plan.seeds) == (asked.top, asked.seeds) else ", as many as the budget allows"
    best, each = ("configuration", "") if plan.top == 1 else (f"{plan.top} configurations", " each")
    return stage.drive(
        _trainings(driver, trials, plan.seeds),
        f"confirming the best {best} with {_seeds(plan.seeds)}{each}{smaller}",
    )


def _refit(driver: Driver, stage: Stage, scored: Sequence[FrozenTrial]) -> StopReason:
    results = Results(driver.prepared.folder)
    winners = confirmed(results)
    if not winners:
        driver.say("no configuration could be trained once more: the study of the confirm runs says why")
        return "finished"
    winner = driver.search.trial(winners[0].trial)
    others = [trial for trial in _baselines(driver, scored) if trial.number != winner.number]
    seeds = len(winners[0].scores) + winners[0].failures
    for count, known in ((seeds, others), (seeds, []), (1, [])):
        trainings = _trainings(driver, [winner], count) + _trainings(driver, known, 1)
        missing = stage.missing(trainings)
        if not missing or _fits(driver, [missing], *_left(driver)):
            break
    else:
        driver.say(f"too little is left of the budget to refit trial {winner.number}")
        return driver.budgets.reason()
    baselines = f" and {counted(len(known), 'baseline')}" if known else ""
    stopped = stage.drive(
        trainings, f"refitting trial {winner.number}{baselines} on training and validation images"
    )
    if stopped == "finished" and not any(
        m.winner and m.folder != results.folder.best for m in final_models(results)
    ):
        driver.say(f"trial {winner.number} could not be refitted: best/ is what the search left of it")
    return stopped


def _baselines(driver: Driver, scored: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    known = driver.prepared.baselines
    return [trial for trial in scored if trial.user_attrs.get("baseline") in known]


def _trainings(driver: Driver, trials: Sequence[FrozenTrial], seeds: int) -> list[Rerun]:
    # at most: what trains on features, or was no faster with another seed, is not compiled
    compiling = SIZES * EXPECTED_SECONDS if driver.compile == "always" else 0.0
    return reruns(trials, seeds, driver.prepared.task.max_epochs, besides=compiling)


def _asked(driver: Driver) -> Finish:
    settings = driver.prepared.settings
    return Finish(settings.confirm_top, settings.confirm_seeds)


def _phases(
    driver: Driver, plan: Finish, scored: Sequence[FrozenTrial], baselines: Sequence[FrozenTrial]
) -> list[list[Rerun]]:
    """The trainings of both studies; the slowest of those confirmed stands for the winner."""
    confirm = _trainings(driver, unlike(scored, plan.top), plan.seeds)
    if not confirm:
        return [[], []]
    if not plan.refit:
        return [confirm, []]
    slowest = max(confirm, key=lambda training: training.seconds)
    return [confirm, [slowest] * plan.seeds + _trainings(driver, baselines, 1)]


def _wall(driver: Driver, phases: Sequence[Sequence[Rerun]]) -> float:
    return sum(wall_seconds(phase, driver.slots_expected) for phase in phases)


def _busy(driver: Driver, phases: Sequence[Sequence[Rerun]]) -> float:
    """GPU-seconds."""
    return driver.prepared.slots.gpus * sum(busy_seconds(phase) for phase in phases)


def _left(driver: Driver) -> tuple[float | None, float | None]:
    """Seconds and GPU-seconds that are left of the budgets; None where there is none."""
    budgets = driver.budgets
    return (
        None if budgets.seconds is None else budgets.seconds - budgets.spent_seconds,
        None if budgets.gpu_seconds is None else budgets.gpu_seconds - budgets.spent_gpu_seconds,
    )


def _fits(
    driver: Driver, phases: Sequence[Sequence[Rerun]], seconds: float | None, gpu_seconds: float | None
) -> bool:
    return (seconds is None or _wall(driver, phases) <= seconds) and (
        gpu_seconds is None or _busy(driver, phases) <= gpu_seconds
    )


def _seeds(count: int) -> str:
    return "one new seed" if count == 1 else f"{count} new seeds"
