"""What follows a search when things go wrong: nothing is lost or called confirmed that is not."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from rich.console import Console
from test_reruns import trial

from search.budgets import Budgets
from search.drive import Driver, Job
from search.final import CONFIRM, final_models, final_study
from search.finish import keep_for_finish
from search.reruns import MARGIN, START_SECONDS
from search.results import Results
from search.run import resume, run
from search.settings import Settings
from search.work import Work
from trainables.stint import Stint

QUICK = {
    "space": "benchmarks.small_space",
    "dataset": "digits",
    "max_epochs": 1,
    "max_concurrent": 2,
    "device": "cpu",
    "seed": 3,
}


def begin(folder: Path, **options: object) -> tuple[Results, str]:
    console = Console(file=io.StringIO(), width=150)
    asked = {
        "trials": 4,
        "asha": "none",
        "confirm_top": 2,
        "confirm_seeds": 2,
        "storage": folder,
        "name": "run",
    }
    results = run(Settings(**{**QUICK, **asked, "storage": folder, **options}), console=console)
    return results, console.file.getvalue()


def go_on(folder: Path, **options: object) -> tuple[Results, str]:
    console = Console(file=io.StringIO(), width=150)
    results = resume(folder / "run", console=console, **options)
    return results, console.file.getvalue()


def rising(kind: str, number: int) -> float:
    """Later trials are better, in every study."""
    return 0.5 + 0.01 * number


def winner_of_best(folder: Path) -> int:
    document = json.loads((folder / "run" / "best" / "config.json").read_text())
    return int(document["about"]["trial"])


def states(results: Results, kind: str) -> list[str]:
    study = final_study(results, kind)
    assert study is not None
    return [trial.state.name for trial in study.trials]


def test_all_goes_well(tmp_path, follow):
    follow(rising)
    results, text = begin(tmp_path)
    assert "confirmed: trial 3 earns 53.00 % ± 0.00 % over 2 new seeds" in text
    assert (winner_of_best(tmp_path), results.stopped) == (3, "finished")


def test_a_training_that_runs_out_of_memory_is_a_failure_of_its_seed_and_nothing_else(tmp_path, follow):
    calls = []

    def once(kind, number):
        calls.append(kind)
        return "infeasible" if kind == "confirm" and calls.count("confirm") == 1 else rising(kind, number)

    follow(once)
    results, _ = begin(tmp_path)
    assert states(results, CONFIRM) == ["PRUNED", "COMPLETE", "COMPLETE", "COMPLETE"], "nothing was proposed"
    assert [(one.trial, one.failures) for one in results.confirmed] == [(2, 0), (3, 1)]
    follow(rising)
    assert "nothing is left to do" in go_on(tmp_path)[1]


def test_a_winner_whose_refits_fail_is_what_the_search_left_of_it(tmp_path, follow, monkeypatch):
    known = {"known": {"width": 8, "learning_rate": 1e-3}}
    monkeypatch.setattr("benchmarks.small_space.BASELINES", known, raising=False)
    follow(lambda kind, number: "error" if kind == "refit" and number == 3 else rising(kind, number))
    results, text = begin(tmp_path, baselines=True, retries=0)
    assert "trial 3 could not be refitted: best/ is what the search left of it" in text
    assert winner_of_best(tmp_path) == 3
    models = [(model.trial, model.baseline, model.winner) for model in final_models(results)]
    assert models == [(3, "", True), (0, "known", False)]


@pytest.mark.parametrize("options", [{}, {"confirm": False}, {"time_budget": "1s"}])
def test_a_model_is_written_by_whoever_resumes_after_a_kill_before_it_was(tmp_path, follow, options):
    follow(lambda kind, number: "killed" if kind == "after refit" else rising(kind, number))
    with pytest.raises(SystemExit):
        begin(tmp_path)
    follow(rising)
    results, _ = go_on(tmp_path, **options)
    assert final_models(results)[0].folder.parent.name == "refit"
    assert winner_of_best(tmp_path) == 3


def test_a_kill_in_the_first_moment_of_a_confirm_run_and_another_wish_after_it(tmp_path, follow):
    follow(lambda kind, number: "killed" if kind == "confirm" else rising(kind, number))
    with pytest.raises(SystemExit):
        begin(tmp_path)
    follow(rising)
    results, _ = go_on(tmp_path, trials=6, confirm_top=1, confirm_seeds=1)
    assert [(one.trial, len(one.scores)) for one in results.confirmed] == [(5, 1)]
    assert "RUNNING" not in states(results, CONFIRM), "what nobody wants any more has ended"
    results, _ = go_on(tmp_path, confirm_top=3, confirm_seeds=2)
    assert [(one.trial, len(one.scores)) for one in results.confirmed] == [(5, 2), (4, 2), (3, 2)]


def test_what_a_budget_cut_short_is_not_confirmed_and_not_finished(tmp_path, follow):
    calls = []

    def some(kind, number):
        calls.append(kind)
        return "budget" if calls.count("confirm") == 3 else rising(kind, number)

    follow(some)
    results, text = begin(tmp_path, time_budget="10m")
    assert "unconfirmed: 2 of 4 trainings with new seeds have ended" in text
    assert (results.confirmed, results.stopped) == ([], "time budget")
    follow(rising)
    results, text = go_on(tmp_path)
    assert "confirmed: trial 3 earns 53.00 % with one new seed" in text, "that much is known of both"
    assert "too little is left of the budget to refit trial 3" in text
    assert "nothing is left to do" not in text
    assert results.stopped == "time budget"
    results, text = go_on(tmp_path, time_budget="20m")
    assert [len(one.scores) for one in results.confirmed] == [2, 2]
    assert results.stopped == "finished"


def test_where_too_little_is_left_for_a_refit_the_best_are_confirmed_all_the_same(tmp_path, follow):
    follow(rising)
    results, text = begin(tmp_path, trials=13, time_budget="30s")
    assert "confirming the best 2 configurations with one new seed each, as many as the budget allows" in text
    assert "too little is left of the budget to refit trial 12" in text
    assert [(one.trial, len(one.scores)) for one in results.confirmed] == [(12, 1), (11, 1)]
    assert winner_of_best(tmp_path) == 12
    assert results.stopped == "time budget"


def test_a_budget_used_up_after_everything_is_done_takes_nothing_back(tmp_path, follow):
    follow(rising)
    begin(tmp_path, time_budget="10m")
    results, text = go_on(tmp_path, time_budget="1s")
    assert "nothing is left to do" in text
    assert [one.trial for one in results.confirmed] == [3, 2]


def test_a_search_that_goes_on_without_confirming_is_unconfirmed(tmp_path, follow):
    follow(rising)
    begin(tmp_path)
    results, text = go_on(tmp_path, trials=8, confirm=False)
    assert "unconfirmed: the best of many" in text
    assert (results.best["trial"], winner_of_best(tmp_path)) == (7, 7)
    results, text = go_on(tmp_path, confirm=True)
    assert [one.trial for one in results.confirmed] == [7, 6]
    assert winner_of_best(tmp_path) == 7


def test_a_configuration_that_fails_with_every_new_seed_is_shown_as_that(tmp_path, follow):
    follow(lambda kind, number: "error" if kind == "confirm" and number == 3 else rising(kind, number))
    results, text = begin(tmp_path, retries=0)
    assert [one.trial for one in results.confirmed] == [2]
    assert "all failed" in text
    assert winner_of_best(tmp_path) == 2


def test_an_interrupted_refit_goes_on_there(tmp_path, follow):
    follow(lambda kind, number: "stop" if kind == "refit" else rising(kind, number))
    results, _ = begin(tmp_path)
    assert results.stopped == "interrupted"
    assert winner_of_best(tmp_path) == 3, "of the search, for now"
    follow(rising)
    results, text = go_on(tmp_path)
    assert "confirming" not in text
    assert final_models(results)[0].folder.parent.name == "refit"
    assert not list((tmp_path / "run").glob("*/*/checkpoint*.pt")) or all(
        path.parent.parent.name == "trials" for path in (tmp_path / "run").glob("*/*/checkpoint*.pt")
    )


def test_baselines_are_given_up_before_the_confirmation_is(tmp_path, follow, monkeypatch):
    known = {f"known{n}": {"width": 8, "learning_rate": 1e-3 + 1e-5 * n} for n in range(60)}
    monkeypatch.setattr("benchmarks.small_space.BASELINES", known, raising=False)
    # a search that is looked at again and again, as on a slow machine, ends early enough for all of them
    monkeypatch.setattr("search.drive.SPENT_SECONDS", math.inf)
    follow(rising)
    results, text = begin(tmp_path, baselines=True, trials=61, time_budget="110s")
    assert "confirming the best" in text
    assert "refitting trial" in text
    assert "baselines on" not in text
    assert results.confirmed


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        (300, "both studies, baselines too"),
        (150, "both studies"),
        (120, "both studies"),  # for two thirds of it
        (60, "the confirm runs"),
        (20, "nothing"),
    ],
)
def test_of_a_budget_so_much_is_kept_as_leaves_the_search_a_third(seconds, kept):
    budgets = Budgets(seconds=float(seconds))
    study = optuna.create_study(direction="maximize")
    for width in range(4):
        study.add_trial(trial(width, epochs=1, seconds=20.0, baseline="known" if width == 3 else ""))
    driver = SimpleNamespace(
        budgets=budgets,
        compile="never",
        slots_expected=1,
        search=SimpleNamespace(trial=lambda number: study.trials[number]),
        prepared=SimpleNamespace(
            settings=Settings(confirm_top=1, confirm_seeds=1),
            task=SimpleNamespace(max_epochs=1),
            slots=SimpleNamespace(gpus=0.0),
        ),
    )
    controller = SimpleNamespace(leading=lambda count: list(range(count)), baselines=[3])
    keep_for_finish(driver, controller)
    phase = 20 * MARGIN + START_SECONDS
    expected = {
        "both studies, baselines too": 2 * phase + 20 * MARGIN,
        "both studies": 2 * phase,
        "the confirm runs": phase,
        "nothing": 0.0,
    }
    assert budgets.kept_seconds == pytest.approx(expected[kept])


@pytest.fixture
def asked(monkeypatch) -> dict[str, list[str]]:
    """Whether what is trained from now on may be compiled, study by study."""
    found: dict[str, list[str]] = {"trials": [], "confirm": [], "refit": []}
    make = Driver._stint

    def noted(self: Driver, job: Job, work: Work) -> Stint:
        stint = make(self, job, work)
        found[job.label or "trials"].append(stint.compile)
        return stint

    monkeypatch.setattr(Driver, "_stint", noted)
    return found


@pytest.mark.parametrize(("wish", "wrong"), [("auto", "error"), ("always", "lost")])
def test_only_what_is_trained_in_full_may_be_compiled_and_not_what_failed_once(
    tmp_path, follow, asked, wish, wrong
):
    def fails_once(kind: str, number: int) -> float | str:
        return wrong if kind == "refit" and len(asked["refit"]) == 1 else rising(kind, number)

    follow(fails_once)
    begin(tmp_path, compile=wish, confirm_top=1)
    assert asked == {"trials": ["never"] * 4, "confirm": [wish] * 2, "refit": [wish, "never", wish]}


@pytest.mark.parametrize(("wish", "tried"), [("auto", "never"), ("always", "always")])
def test_a_budget_of_time_has_no_room_for_compiling_unless_it_is_asked_for(
    tmp_path, follow, asked, wish, tried
):
    follow(rising)
    begin(tmp_path, compile=wish, confirm_top=1, time_budget="1h")
    assert asked["confirm"] == [tried] * 2
    assert asked["refit"] == [tried] * 2


def test_compiling_that_is_asked_for_is_part_of_the_plan(tmp_path, follow):
    follow(rising)
    _, text = begin(tmp_path, compile="always", confirm_top=1, confirm_seeds=1, time_budget="2m")
    assert "too little is left of the budget to confirm anything" in text
    _, text = go_on(tmp_path, compile="never")
    assert "confirming the best configuration with one new seed" in text


def test_a_resume_may_leave_compiling_out(tmp_path, follow, asked):
    follow(lambda kind, number: "killed" if kind == "refit" else rising(kind, number))
    with pytest.raises(SystemExit):
        begin(tmp_path, confirm_top=1)
    follow(rising)
    assert go_on(tmp_path, compile="never")[0].stopped == "finished"
    assert asked["confirm"] == ["auto"] * 2
    assert asked["refit"] == ["auto", "never", "never"]
