import io
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import training as training_module
from trainables.config import AugmentConfig, ModelConfig, OptimizerConfig, Task, TrialConfig
from trainables.data import Dataset, merged
from trainables.device import DeviceData, place
from trainables.training import EpochReport, Training

CPU = torch.device("cpu")
EVERYTHING_ON = {"flip": True, "crop": 1, "cutout": 3, "mixup": 0.5}


def measured(report: EpochReport) -> dict[str, Any]:
    """A report without the clock's part."""
    clock = ("seconds", "validation_seconds", "images_per_second")
    return {name: value for name, value in asdict(report).items() if name not in clock}


def curve(training: Training) -> list[dict[str, Any]]:
    return [measured(report) for report in training.epochs()]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return loaded


def all_tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            yield from all_tensors(value)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(all_tensors(one), all_tensors(other), strict=True))


class Probe(nn.Module):
    """A linear network that calls `watch` with itself and its input at every forward pass."""

    def __init__(self, task: Task, watch: Callable[[nn.Module, torch.Tensor], None]) -> None:
        super().__init__()
        self.watch = watch
        self.linear = nn.Linear(task.channels * task.image_size**2, task.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.watch(self, images)
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(ModelConfig):
    watch: Callable[[nn.Module, torch.Tensor], None] = lambda model, images: None

    def build(self, task: Task) -> nn.Module:
        return Probe(task, self.watch)


def probe_config(watch: Callable[[nn.Module, torch.Tensor], None], **changes: Any) -> TrialConfig:
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.01)
    return TrialConfig(model=ProbeConfig(watch=watch), optimizer=optimizer, **changes)


# ---- exactness


def test_same_training_gives_the_same_curve_whatever_ran_between(make_config, task, data):
    first = make_config(augment=EVERYTHING_ON, model={"block_dropout": 0.1}, averaging="ema")
    second = make_config(optimizer={"name": "adamw"}, model={"widths": ((4,),), "norm": "none"})
    curves = [
        curve(Training(config, task, data, seed=seed))
        for config, seed in [(first, 1), (second, 2), (first, 1), (first, 3)]
    ]
    assert curves[0] == curves[2]
    assert curves[0] != curves[3]  # the seed decides


@pytest.mark.parametrize("averaging", ["none", "ema", "lookahead"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_interrupted_training_goes_on_exactly(optimizer, averaging, make_config, task, data):
    config = make_config(
        augment=EVERYTHING_ON,
        averaging=averaging,
        label_smoothing=0.1,
        model={"block_dropout": 0.1, "whitening": True},
        optimizer={
            "name": optimizer,
            "learning_rate": 0.01,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup": 0.3,
        },
    )
    whole = Training(config, task, data, seed=5)
    wanted = curve(whole)

    reports: list[dict[str, Any]] = []
    state: dict[str, Any] | None = None
    for _ in range(task.max_epochs):
        torch.rand(7)  # what a worker did before must not matter
        part = Training(config, task, data, seed=5)
        if state is not None:
            part.load(state)
        reports.append(measured(part.run_epoch()))
        state = through_a_file(part.state())
    assert reports == wanted
    assert same(part.state(), whole.state())
    assert same(part.scored_weights(), whole.scored_weights())


def test_images_that_stay_on_the_host_train_the_same(make_config, task, dataset, data):
    config = make_config(augment={"flip": True, "crop": 2, "cutout": 3, "mixup": 0.4})
    on_host = place(dataset, torch.device("cpu"), resident=False)
    assert not on_host.train.resident
    assert curve(Training(config, task, on_host, seed=1)) == curve(Training(config, task, data, seed=1))


def test_precision_goes_on_too(make_config, task, data):
    first = Training(make_config(), task, data, seed=0, precision="bf16")
    second = Training(make_config(), task, data, seed=0)
    second.load(through_a_file(first.state()))
    assert second.precision == "bf16"


def test_seed_decides_the_first_weights(make_config, task, data):
    one, again, other = (Training(make_config(), task, data, seed=s).scored_weights() for s in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_a_network_may_draw_from_any_generator(task, data):
    drawn: list[tuple[float, float, float]] = []

    def draw(model: nn.Module, images: torch.Tensor) -> None:
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))

    for _ in range(2):
        Training(probe_config(draw), task, data, seed=1).run_epoch()
    half = len(drawn) // 2
    assert drawn[:half] == drawn[half:]


def test_dropout_and_the_order_of_images_have_draws_of_their_own(task, data, monkeypatch):
    seeds: dict[str, list[int]] = {"global": [], "order": []}
    take = training_module.augment.take_batch

    def take_batch(images, index, **options):
        seeds["order"].append(options["generator"].initial_seed())
        return take(images, index, **options)

    def watch(model: nn.Module, images: torch.Tensor) -> None:
        if model.training:
            seeds["global"].append(torch.initial_seed())

    monkeypatch.setattr(training_module.augment, "take_batch", take_batch)
    list(Training(probe_config(watch), task, data, seed=0).epochs())
    assert len(set(seeds["global"])) == len(set(seeds["order"])) == task.max_epochs
    assert not set(seeds["global"]) & set(seeds["order"])


# ---- learning


@pytest.mark.parametrize("averaging", ["none", "ema", "lookahead"])
def test_small_network_learns(averaging, make_config, make_dataset):
    dataset = make_dataset(train=240, val=90)
    task = Task(image_size=8, classes=3, train_images=240, max_epochs=8)
    config = make_config(averaging=averaging, augment={"flip": True}, optimizer={"schedule": "cosine"})
    reports = list(Training(config, task, place(dataset, CPU), seed=0).epochs())
    assert [report.epoch for report in reports] == list(range(1, 9))
    last = reports[-1]
    assert last.val_accuracy > 0.9
    assert last.val_macro_f1 > 0.9
    assert last.train_accuracy > 0.8
    assert last.val_loss < 0.5
    assert last.train_loss < reports[0].train_loss
    assert all(report.finite() for report in reports)
    assert all(report.seconds > report.validation_seconds > 0 for report in reports)
    assert all(report.images_per_second > 0 for report in reports)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_huge_learning_rate_is_reported_as_not_finite(name, make_config, task, data):
    config = make_config(optimizer={"name": name, "learning_rate": 1e30}, averaging="ema")
    reports = list(Training(config, task, data, seed=0).epochs())
    assert len(reports) == task.max_epochs
    assert not reports[-1].finite()


def test_training_runs_in_bf16(task, data):
    seen = []

    def watch(model: nn.Module, images: torch.Tensor) -> None:
        seen.append(model.linear(images.flatten(1)).dtype)

    for precision in ("fp32", "bf16"):
        training = Training(probe_config(watch), task, data, seed=0, precision=precision)
        assert training.run_epoch().finite()
        assert {tensor.dtype for tensor in training.model.parameters()} == {torch.float32}
        assert set(seen) == {torch.bfloat16 if precision == "bf16" else torch.float32}
        seen.clear()


def test_loss_of_an_epoch_is_the_mean_over_images_and_without_smoothing_on_validation(task, make_dataset):
    dataset = make_dataset(train=50)
    data = place(dataset, CPU)
    config = replace(probe_config(lambda m, i: None, batch_size=16), label_smoothing=0.2)
    config = replace(config, optimizer=OptimizerConfig(name="sgd", learning_rate=1e-30))
    training = Training(config, task, data, seed=0)
    report = training.run_epoch()
    scaled = [((p.images - data.mean) / data.std).permute(0, 3, 1, 2) for p in (data.train, data.val)]
    train_logits, val_logits = (training.model(images) for images in scaled)
    train_loss = nn.functional.cross_entropy(train_logits, data.train.labels, label_smoothing=0.2)
    val_loss = nn.functional.cross_entropy(val_logits, data.val.labels)
    assert report.train_loss == pytest.approx(train_loss.item(), rel=1e-5)
    assert report.val_loss == pytest.approx(val_loss.item(), rel=1e-5)
    hits = (train_logits.argmax(1) == data.train.labels).float().mean().item()
    assert report.train_accuracy == pytest.approx(hits)
    hits = (val_logits.argmax(1) == data.val.labels).float().mean().item()
    assert report.val_accuracy == pytest.approx(hits)


# ---- what an epoch goes through


@pytest.mark.parametrize(
    ("images", "batch_size"), [(1, 1), (7, 128), (60, 16), (61, 16), (97, 10), (100, 99), (30, 1), (191, 128)]
)
def test_every_image_is_used_once_an_epoch(images, batch_size, make_dataset, monkeypatch):
    batches: list[list[int]] = []
    take = training_module.augment.take_batch

    def take_batch(images, index, **options):
        batches.append(index.tolist())
        return take(images, index, **options)

    monkeypatch.setattr(training_module.augment, "take_batch", take_batch)
    task = Task(image_size=8, classes=3, train_images=images, max_epochs=2)
    data = place(make_dataset(train=images), CPU)
    training = Training(probe_config(lambda m, i: None, batch_size=batch_size), task, data, seed=0)
    orders = []
    for _ in range(2):
        batches.clear()
        training.run_epoch()
        orders.append([i for batch in batches for i in batch])
        assert sorted(orders[-1]) == list(range(images))
        sizes = {len(batch) for batch in batches}
        assert max(sizes) - min(sizes) <= 1
        # as near to the size asked for as equal batches can be
        assert min(sizes) <= batch_size or len(batches) == 1
        assert len(batches) == training.steps_per_epoch
        assert abs(images / batch_size - len(batches)) <= 0.5 or len(batches) == 1
    assert images < 7 or orders[0] != orders[1]


@pytest.mark.parametrize("resident", [True, False])
def test_every_image_is_seen_as_it_is_and_mirrored_in_turn(resident, task, dataset):
    data = place(dataset, CPU, resident=resident)
    seen: list[dict[bytes, bool]] = []
    ways = {image.numpy().tobytes(): False for image in data.train.images}
    ways |= {image.flip(1).numpy().tobytes(): True for image in data.train.images}
    assert len(ways) == 2 * len(data.train.labels)

    def watch(model: nn.Module, images: torch.Tensor) -> None:
        if model.training:
            raw = (images.permute(0, 2, 3, 1) * data.std + data.mean).round().to(torch.uint8)
            seen[-1].update({image.numpy().tobytes(): ways[image.numpy().tobytes()] for image in raw})

    training = Training(probe_config(watch, augment=AugmentConfig(flip=True)), task, data, seed=3)
    for _ in range(task.max_epochs):
        seen.append({})
        training.run_epoch()
    mirrored = [{image for image, way in epoch.items() if way} for epoch in seen]
    assert 15 < len(mirrored[0]) < 45, "about half of them"
    assert mirrored[0] == mirrored[2]
    assert mirrored[1] == mirrored[3]
    both = mirrored[0] | mirrored[1]
    assert len(both) == len(mirrored[0]) + len(mirrored[1]) == len(data.train.labels)


def test_schedule_spans_max_epochs_also_after_an_interruption(make_config, task, data, monkeypatch):
    asked: list[tuple[int, int]] = []
    rate = training_module.learning_rate

    def learning_rate(config, step, steps):
        asked.append((step, steps))
        return rate(config, step, steps)

    monkeypatch.setattr(training_module, "learning_rate", learning_rate)
    config = make_config(batch_size=20, optimizer={"schedule": "linear", "learning_rate": 1.0})
    first = Training(config, task, data, seed=0)
    reports = [first.run_epoch()]
    second = Training(config, task, data, seed=0)
    second.load(first.state())
    reports += second.epochs()
    assert asked == [(step, 12) for step in range(12)]
    assert [r.learning_rate for r in reports] == pytest.approx([10 / 12, 7 / 12, 4 / 12, 1 / 12])
    assert second.optimizer.param_groups[0]["lr"] == reports[-1].learning_rate


def test_a_finished_training_does_not_go_on(make_config, task, data):
    training = Training(make_config(), task, data, seed=0)
    list(training.epochs())
    assert list(training.epochs()) == []
    with pytest.raises(AssertionError):
        training.run_epoch()


def test_mixup_mixes_images_and_their_losses(task, data, monkeypatch):
    batches: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []

    def watch(model: nn.Module, images: torch.Tensor) -> None:
        if model.training:
            batches.append(images.clone())
            logits.append(model.linear(images.flatten(1)).detach())

    config = probe_config(watch, batch_size=60)
    for share in (1.0, 0.7):
        monkeypatch.setattr(training_module.augment, "mixup_share", lambda alpha, random, s=share: s)
        mixing = replace(config, augment=replace(config.augment, mixup=1.0))
        report = Training(mixing, task, data, seed=0).run_epoch()
    plain, mixed = batches
    # what is left of each image, once its 0.7 are taken away, is 0.3 of another one of the batch
    partners = (mixed - 0.7 * plain) / 0.3
    distance = (partners.flatten(1)[:, None] - plain.flatten(1)).abs().amax(2)
    nearest, partner = distance.min(1)
    assert nearest.max() < 1e-4
    assert sorted(partner.tolist()) == list(range(60))
    known = ((data.train.images - data.mean) / data.std).permute(0, 3, 1, 2)
    labels = data.train.labels[torch.cdist(plain.flatten(1), known.flatten(1)).argmin(1)]
    own, other = (nn.functional.cross_entropy(logits[1], of).item() for of in (labels, labels[partner]))
    assert report.train_loss == pytest.approx(0.7 * own + 0.3 * other, rel=1e-5)


# ---- validation


@pytest.mark.parametrize("averaging", ["none", "ema", "lookahead"])
def test_validation_neither_trains_nor_drops_out(averaging, make_config, task, data):
    training = Training(make_config(averaging=averaging, model={"block_dropout": 0.5}), task, data, seed=0)
    modes: set[bool] = set()
    training.run_epoch()
    for module in training.model.modules():
        module.register_forward_hook(lambda module, *_: modes.add(module.training or torch.is_grad_enabled()))
    before = through_a_file(training.state())
    loss, confusion = training.validate()
    again, _ = training.validate()
    assert modes == {False}
    assert loss == again
    assert same(training.state(), before)
    assert all(parameter.requires_grad for parameter in training.model.parameters())
    assert confusion.sum(1).tolist() == [10, 10, 10]


@pytest.mark.parametrize("averaging", ["none", "ema", "lookahead"])
def test_validation_scores_the_scored_weights(averaging, make_config, task, data):
    training = Training(make_config(averaging=averaging, batch_size=8), task, data, seed=0)
    report = training.run_epoch()
    network = training.config.model.build(task)
    network.load_state_dict(training.scored_weights())
    with torch.no_grad():
        logits = network.eval()(((data.val.images - data.mean) / data.std).permute(0, 3, 1, 2))
    loss = nn.functional.cross_entropy(logits, data.val.labels).item()
    assert report.val_loss == pytest.approx(loss, rel=1e-5)
    differs = not same(training.scored_weights(), training.model.state_dict())
    assert differs == (averaging == "ema")


def test_scored_weights_have_memory_of_their_own(make_config, task, data):
    training = Training(make_config(), task, data, seed=0)
    scored = training.scored_weights()
    kept = {name: tensor.clone() for name, tensor in scored.items()}
    training.run_epoch()
    assert same(scored, kept)


def test_validation_in_parts_counts_every_image(make_config, task, data, monkeypatch):
    training = Training(make_config(), task, data, seed=0)
    whole = training.validate()
    monkeypatch.setattr(training_module, "EVALUATION_BATCH", 7)
    loss, confusion = training.validate()
    assert torch.equal(confusion, whole[1])
    assert loss == pytest.approx(whole[0], rel=1e-5)


# ---- what training starts from


class Calibrated(Probe):
    def initialize_from(self, images: torch.Tensor) -> None:
        self.watch(self, images)
        nn.init.constant_(self.linear.weight, 0.25)


@dataclass(frozen=True, kw_only=True)
class CalibratedConfig(ProbeConfig):
    def build(self, task: Task) -> nn.Module:
        return Calibrated(task, self.watch)


def initialization_images(task: Task, data: DeviceData, seed: int = 0) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    config = replace(
        probe_config(lambda m, i: None), model=CalibratedConfig(watch=lambda m, images: seen.append(images))
    )
    training = Training(config, task, data, seed=seed)
    assert len(seen) == 1  # before any forward pass
    assert (training.model.get_parameter("linear.weight") == 0.25).all()
    return seen[0]


def test_network_is_initialized_from_normalized_training_images(task, data):
    images = initialization_images(task, data)
    assert images.shape == (60, 3, 8, 8)
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert images.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    assert torch.equal(images, initialization_images(task, data))
    assert not torch.equal(images, initialization_images(task, data, seed=1))


def test_initialization_takes_fewer_of_larger_images(task, make_dataset: Callable[..., Dataset], monkeypatch):
    monkeypatch.setattr(training_module, "INITIALIZATION_PIXELS", 20 * 8 * 8)
    for size, count in [(8, 20), (16, 5), (64, 1)]:
        data = place(make_dataset(size=size), CPU)
        assert len(initialization_images(replace(task, image_size=size), data)) == count


def test_training_on_all_images_uses_validation_ones_and_scores_nothing(
    make_config, task, dataset, monkeypatch
):
    whole = merged(dataset)
    assert len(whole.train) == len(dataset.train) + len(dataset.val)
    assert (whole.mean, whole.fingerprint) == (dataset.mean, f"{dataset.fingerprint}+val")
    device = torch.device("cpu")
    training = Training(
        make_config(), replace(task, train_images=len(whole.train)), place(whole, device), seed=0
    )
    monkeypatch.setattr(training, "validate", None)
    report = training.run_epoch()
    assert (report.val_loss, report.val_accuracy, report.val_macro_f1) == (None, None, None)
    assert report.finite()
    assert not replace(report, train_loss=float("nan")).finite()
