import numpy as np
import optuna
import pytest

from benchmarks.curve_families import MAX_EPOCHS
from benchmarks.record_curves import TASK
from benchmarks.tasks import CNN_CURVES, TASKS, Scale, scale
from search.curves import RecordedCurves


@pytest.fixture(scope="module")
def recorded():
    return RecordedCurves.read(CNN_CURVES)


def test_recorded_file_is_small_and_has_enough_whole_curves(recorded):
    assert CNN_CURVES.stat().st_size < 5_000_000
    assert len(recorded.trials) >= 150
    assert recorded.epochs == MAX_EPOCHS == TASK.max_epochs


def test_recorded_configurations_are_points_of_the_space_that_is_searched(recorded):
    for recorded_trial in recorded.trials[:20]:
        trial = optuna.trial.FixedTrial(recorded_trial.params)
        TASKS["cnn curves"](0).suggest(trial)
        assert trial.params == recorded_trial.params


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_curves_as_the_searches_expect_them(name):
    task = TASKS[name](1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        task.suggest(trial)
        for values, seconds in (task.curve(trial.params), task.truth(trial.params)):
            assert values.shape == seconds.shape == (MAX_EPOCHS,)
            assert np.all(seconds > 0)


def test_scale_of_the_recorded_curves_is_the_best_and_the_median_of_them(recorded):
    finals = [trial.values[-1] for trial in recorded.trials]
    assert scale("cnn curves", 0).best == np.nanmax(finals)
    assert scale("cnn curves", 0).median <= np.nanmedian(finals)


def test_regret_is_zero_at_the_best_and_one_at_the_median():
    unit = Scale(best=0.9, median=0.4, seconds=1.0)
    assert [unit.regret(score) for score in (0.9, 0.4, 0.65)] == pytest.approx([0.0, 1.0, 0.5])
