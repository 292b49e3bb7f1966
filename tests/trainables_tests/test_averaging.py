from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainables.averaging import WeightAverage, scored_weights

Weights = dict[str, torch.Tensor]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def weights_of(model: nn.Module) -> Weights:
    return {n: t.detach().double().clone() for n, t in model.state_dict().items() if t.is_floating_point()}


def train_a_step(model: nn.Module, step: int) -> None:
    """Moves weights, running averages and their counter, with draws that only depend on the step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(
                0.1 * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else 1
            )


def follow(mean: Weights, live: Weights, decay: float) -> Weights:
    return {name: decay * mean[name] + (1 - decay) * live[name] for name in mean}


def assert_same(got: Weights, wanted: Weights) -> None:
    for name, tensor in wanted.items():
        assert torch.allclose(got[name].double(), tensor, rtol=0, atol=1e-5), name


def test_ema_equals_an_average_written_out():
    model, steps = make_model(), 60
    average, mean = WeightAverage("ema", model, steps), weights_of(model)
    for step in range(1, steps + 1):
        train_a_step(model, step)
        before = weights_of(model)
        average.update(step, epoch_ends=step % 20 == 0)
        mean = follow(mean, before, min(0.999, (1 + step) / (10 + step)))
        assert_same(weights_of(model), before)  # training never sees it
        assert_same(dict(scored_weights(model.state_dict(), average.kind, average.mean)), mean)


def test_ema_decay_ends_at_its_limit():
    model = make_model()
    average, start = WeightAverage("ema", model, 10**6), weights_of(model)
    train_a_step(model, 1)
    average.update(10**6, epoch_ends=False)
    assert_same(
        dict(scored_weights(model.state_dict(), average.kind, average.mean)),
        follow(start, weights_of(model), 0.999),
    )


def test_lookahead_equals_an_average_written_out():
    model, steps, epoch = make_model(), 36, 12
    average, slow = WeightAverage("lookahead", model, steps), weights_of(model)
    for step in range(1, steps + 1):
        train_a_step(model, step)
        fast = weights_of(model)
        average.update(step, epoch_ends=step % epoch == 0)
        if step in (5, 10, 12, 15, 20, 24, 25, 30, 35, 36):
            slow = follow(slow, fast, 0.95**5 * (step / steps) ** 3)
            assert_same(weights_of(model), slow)  # training goes on from the average
        else:
            assert_same(weights_of(model), fast)


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_lookahead_keeps_what_a_very_short_training_learnt(steps):
    model = make_model()
    start, average = weights_of(model), WeightAverage("lookahead", model, steps)
    for step in range(1, steps + 1):
        train_a_step(model, step)
        average.update(step, epoch_ends=step == steps)
    assert all(not torch.equal(tensor, start[name]) for name, tensor in weights_of(model).items())


def test_running_averages_are_averaged_and_counters_are_not():
    model = make_model()
    average, start = WeightAverage("ema", model, 100), weights_of(model)
    train_a_step(model, 1)
    average.update(50, epoch_ends=False)
    scored = scored_weights(model.state_dict(), average.kind, average.mean)
    between = follow(start, weights_of(model), 51 / 60)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.allclose(scored[name].double(), between[name], atol=1e-6)
    assert scored["1.num_batches_tracked"] == model.state_dict()["1.num_batches_tracked"] == 1


def test_swapping_twice_changes_nothing():
    model = make_model()
    average = WeightAverage("ema", model, 10)
    train_a_step(model, 1)
    live, mean = weights_of(model), [t.clone() for t in average.state()]
    average.swap()
    assert all(map(torch.equal, average.live, mean))
    assert not torch.equal(weights_of(model)["0.weight"], live["0.weight"])
    average.swap()
    assert all(torch.equal(tensor, live[name]) for name, tensor in weights_of(model).items())
    assert all(map(torch.equal, average.state(), mean))


def own_weights(model: nn.Module, average: WeightAverage) -> list[torch.Tensor]:
    return [t for t in model.state_dict().values() if t.is_floating_point()]


def mean_weights(model: nn.Module, average: WeightAverage) -> list[torch.Tensor]:
    return average.mean


@pytest.mark.parametrize(("kind", "expected"), [("ema", mean_weights), ("lookahead", own_weights)])
def test_scored_weights(kind, expected: Callable[[nn.Module, WeightAverage], list[torch.Tensor]]):
    model = make_model()
    average = WeightAverage(kind, model, 10)
    train_a_step(model, 1)  # between two moves, so that network and average differ
    scored = scored_weights(model.state_dict(), average.kind, average.mean)
    assert list(scored) == list(model.state_dict())
    floating = [t for t in scored.values() if t.is_floating_point()]
    assert all(map(torch.equal, floating, expected(model, average)))


def test_scored_weights_without_an_average_are_the_networks_own():
    model = make_model()
    scored = scored_weights(model.state_dict(), "none", None)
    assert all(torch.equal(tensor, scored[name]) for name, tensor in model.state_dict().items())


def test_loaded_average_goes_on_as_the_one_that_was_saved():
    model = make_model()
    average = WeightAverage("ema", model, 10)
    train_a_step(model, 1)
    average.update(1, epoch_ends=False)
    kept = [t.clone() for t in average.state()]
    other = WeightAverage("ema", make_model(), 10)
    other.load(kept)
    assert all(map(torch.equal, other.state(), average.state()))
    average.update(2, epoch_ends=False)
    assert not all(map(torch.equal, other.state(), average.state()))  # memory of its own
