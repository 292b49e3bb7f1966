from types import SimpleNamespace

import pytest

from search.paced import Paced


@pytest.mark.parametrize(("takes", "every"), [(0.001, 1), (0.01, 1), (0.1, 5.1), (2.0, 102.0)])
def test_what_is_done_again_and_again_takes_a_fiftieth_of_the_time_at_most(monkeypatch, takes, every):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("search.paced.time", SimpleNamespace(monotonic=lambda: clock.now))
    done: list[float] = []

    def action() -> None:
        done.append(clock.now)
        clock.now += takes

    pace = Paced(least=1.0)
    while len(done) < 4:
        pace.run(action)
        clock.now += 0.05
    assert done[0] == 1000.0
    assert (done[3] - done[0]) / 3 == pytest.approx(every, abs=0.1)
