import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import OptimizerConfig
from trainables.schedule import learning_rate

any_steps = st.integers(1, 300)
any_warmup = st.floats(0, 1, exclude_max=True)
any_schedule = st.sampled_from(["constant", "linear", "cosine"])


def rates(schedule: str, steps: int, warmup: float = 0.0, peak: float = 0.5) -> list[float]:
    config = OptimizerConfig(name="sgd", learning_rate=peak, schedule=schedule, warmup=warmup)
    return [learning_rate(config, step, steps) for step in range(steps)]


@given(schedule=any_schedule, steps=any_steps, warmup=any_warmup)
def test_every_step_trains_and_one_reaches_the_peak(schedule, steps, warmup):
    values = rates(schedule, steps, warmup)
    assert all(0 < value <= 0.5 for value in values)
    assert max(values) == 0.5


@given(schedule=any_schedule, steps=any_steps, warmup=any_warmup)
def test_rate_climbs_to_the_peak_and_never_climbs_again(schedule, steps, warmup):
    values = rates(schedule, steps, warmup)
    peak = values.index(0.5)
    assert abs(peak - warmup * steps) <= 1  # the warm-up is that share of all steps
    climb, fall = values[: peak + 1], values[peak:]
    assert climb == sorted(set(climb))
    assert fall == sorted(fall, reverse=True)


@given(steps=any_steps, warmup=any_warmup)
def test_warm_up_is_a_straight_line_from_zero(steps, warmup):
    values = rates("constant", steps, warmup)
    peak = values.index(0.5)
    assert values[: peak + 1] == pytest.approx([0.5 * (n + 1) / (peak + 1) for n in range(peak + 1)])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_rate_falls_to_nearly_zero(schedule):
    values = rates(schedule, 1000, warmup=0.2)
    assert values[-1] < 0.002 * 0.5
    assert values[200] == 0.5
    assert values[600] == pytest.approx(0.25)


def test_cosine_stays_high_longer_than_linear():
    assert rates("cosine", 100)[25] > rates("linear", 100)[25]


@given(steps=any_steps)
def test_constant_stays(steps):
    assert set(rates("constant", steps)) == {0.5}
