"""What follows a search: which trainings, how long they take, and how many of them a budget allows."""

from __future__ import annotations

import optuna
import pytest

from search.reruns import MARGIN, START_SECONDS, Finish, busy_seconds, reruns, unlike, wall_seconds


def trial(
    number: int, *, epochs: int = 3, seconds: float = 30.0, baseline: str = ""
) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        value=0.5,
        params={"width": number},
        distributions={"width": optuna.distributions.IntDistribution(0, 100)},
        intermediate_values=dict.fromkeys(range(1, epochs + 1), 0.5),
        user_attrs={"seconds": seconds, **({"baseline": baseline} if baseline else {})},
    )


def numbered(*trials: optuna.trial.FrozenTrial) -> list[optuna.trial.FrozenTrial]:
    for number, one in enumerate(trials):
        one.number = number
    return list(trials)


def test_every_configuration_has_a_score_before_any_has_two():
    found = reruns(numbered(trial(4), trial(5)), 3, max_epochs=9)
    assert [(one.of, one.seed) for one in found] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert len({one.key for one in found}) == 6
    assert found[1].params == {"width": 5}


def test_a_trial_stopped_early_is_reckoned_at_full_length():
    (one,) = reruns(numbered(trial(4, epochs=3, seconds=30.0)), 1, max_epochs=9)
    assert one.seconds == pytest.approx(90.0)


def test_what_every_training_takes_besides_its_epochs_is_reckoned_too():
    first, second = reruns(numbered(trial(4, epochs=3, seconds=30.0)), 2, max_epochs=9, besides=7.0)
    assert first.seconds == second.seconds == pytest.approx(97.0)


def test_slots_take_the_next_training_when_they_are_free():
    trainings = reruns(
        numbered(*(trial(n, epochs=1, seconds=s) for n, s in enumerate((30, 10, 10, 10)))), 1, 1
    )
    assert wall_seconds(trainings, 2) == pytest.approx(30 * MARGIN + START_SECONDS)
    assert wall_seconds(trainings, 1) == pytest.approx(60 * MARGIN + START_SECONDS)
    assert wall_seconds([], 2) == 0.0
    assert busy_seconds(trainings) == pytest.approx(60 * MARGIN)


def test_what_does_not_fit_is_made_smaller_step_by_step():
    seen: list[Finish] = []

    def never(plan: Finish) -> bool:
        seen.append(plan)
        return False

    assert Finish(3, 3).largest(never).top == 0
    assert seen == [Finish(3, 3), Finish(3, 2), Finish(2, 2), Finish(2, 1), Finish(1, 1)]
    assert Finish(3, 3).largest(lambda plan: plan.top * plan.seeds <= 4) == Finish(2, 2)
    assert Finish(5, 1).largest(lambda plan: plan.top <= 2) == Finish(2, 1)
    assert Finish(1, 4).largest(lambda plan: plan.seeds <= 2) == Finish(1, 2)
    assert Finish(3, 3).largest(lambda plan: True) == Finish(3, 3)


def test_the_same_configuration_is_confirmed_once():
    assert [one.number for one in unlike(numbered(trial(4), trial(4), trial(5), trial(6)), 2)] == [0, 2]
