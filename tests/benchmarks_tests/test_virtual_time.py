import numpy as np

from benchmarks import virtual_time
from search.simulate import simulate


class Script:
    """Proposes x = 0, 1, 2 ...; pauses each trial after `pause_at` and goes on with it next."""

    def __init__(self, pause_at=None):
        self.pause_at, self.asked, self.paused = pause_at, 0, []
        self.heard, self.ended = [], []

    def next_work(self):
        if self.paused:
            return self.paused.pop(), {}
        self.asked += 1
        return self.asked - 1, {"x": self.asked - 1}

    def report(self, number, epoch, value):
        self.heard.append((number, epoch, value))
        if epoch == self.pause_at:
            self.paused.append(number)
        return epoch != self.pause_at

    def diverged(self, number):
        self.ended.append(number)


def curve(params):
    return np.array([0.1, 0.2, 0.3]) + params["x"], np.array([1.0, 1.0, 2.0])


def run(search, *, curve=curve, workers=1, seconds=8.0):
    return virtual_time.run(search, curve, workers=workers, max_epochs=3, seconds=seconds)


def test_trials_follow_one_another_and_nothing_ends_after_the_budget():
    rows = run(Script(), seconds=6.0)
    assert rows["time"].tolist() == [1, 2, 4, 5, 6]
    assert rows["trial"].tolist() == [0, 0, 0, 1, 1]


def test_paused_trial_goes_on_where_it_was():
    search = Script(pause_at=2)
    rows = run(search, seconds=4.0)
    assert rows["trial"].tolist() == [0, 0, 0]
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert rows["params"].iloc[-1] == {"x": 0}


def test_diverged_trial_ends_there_and_its_score_is_not_reported():
    def half(params):
        values, seconds = curve(params)
        return np.where([True, params["x"] > 0, True], values, np.nan), seconds

    search = Script()
    rows = run(search, curve=half, seconds=4.0)
    assert search.ended == [0]
    assert [epoch for number, epoch, _ in search.heard if number == 0] == [1]
    assert rows["trial"].tolist() == [0, 0, 1, 1]


def test_without_stopping_it_is_the_simulation_of_the_project():
    def suggest(trial):
        trial.suggest_float("x", 0.0, 1.0)

    expected = simulate(
        suggest, curve, workers=3, max_epochs=3, seconds=20.0, sampler="random", asha="none", seed=1
    )
    drawn = {row["trial"]: row["params"] for row in expected.to_dict("records")}

    class Same(Script):
        def next_work(self):
            self.asked += 1
            return self.asked - 1, drawn.get(self.asked - 1, {"x": 0.0})

    rows = run(Same(), workers=3, seconds=20.0)
    columns = ["time", "trial", "epoch", "value"]
    assert rows[columns].equals(expected[columns])
