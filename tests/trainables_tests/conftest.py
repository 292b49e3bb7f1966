import gc
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.config import AugmentConfig, OptimizerConfig, Task, TrialConfig
from trainables.data import Dataset, Part
from trainables.device import DeviceData, place
from trainables.models.cnn import CnnConfig
from trainables.stint import Stint

CLASSES = 3
SIZE = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, and other tests may run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _part(count: int, size: int, random: np.random.Generator) -> Part:
    """Images whose class is the channel that is brightest on average, under much noise."""
    labels = np.arange(count, dtype=np.int64) % CLASSES
    pixels = random.integers(0, 200, (count, size, size, 3))
    pixels[np.arange(count), :, :, labels] += 55
    return Part(images=pixels.astype(np.uint8), labels=labels)


def _dataset(train: int = 60, val: int = 30, size: int = SIZE) -> Dataset:
    random = np.random.default_rng(0)
    train_part, val_part = _part(train, size, random), _part(val, size, random)
    scaled = train_part.images / 255
    return Dataset(
        name="toy",
        class_names=("red", "green", "blue"),
        train=train_part,
        val=val_part,
        mean=tuple(scaled.mean((0, 1, 2)).tolist()),
        std=tuple(scaled.std((0, 1, 2)).tolist()),
        fingerprint="0123456789abcdef",
    )


def _config(**changes: Any) -> TrialConfig:
    """A small network with norms and dropout; optimizer, augment and model are changed field by field."""
    model = {"widths": ((8,), (8,)), "head_dropout": 0.2} | changes.pop("model", {})
    optimizer = {"name": "sgd", "learning_rate": 0.05} | changes.pop("optimizer", {})
    augment = changes.pop("augment", {})
    return TrialConfig(
        model=CnnConfig(**model),
        optimizer=OptimizerConfig(**optimizer),
        augment=AugmentConfig(**augment),
        **({"batch_size": 16} | changes),
    )


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return _dataset


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrialConfig]:
    return _config


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return _dataset()


@pytest.fixture(scope="session")
def data(dataset: Dataset) -> DeviceData:
    return place(dataset, torch.device("cpu"))


@pytest.fixture(scope="session")
def task(dataset: Dataset) -> Task:
    return Task(image_size=SIZE, classes=CLASSES, train_images=len(dataset.train), max_epochs=4)


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return loaded


@pytest.fixture(scope="session")
def through_a_file() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Writes a training's state and reads it again, as a checkpoint does."""
    return _through_a_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trials" / "00007"


@pytest.fixture
def order(make_config: Callable[..., TrialConfig], task: Task, folder: Path) -> Callable[..., Stint]:
    """The first stint of a trial with rungs at 1 and 2, changed field by field."""
    first = Stint(
        trial=7,
        stint=0,
        config=make_config(averaging="ema", model={"widths": ((4,),)}),
        task=task,
        seed=11,
        known_epochs=0,
        checkpoint_epochs=(1, 2, 4),
        checkpoint_seconds=1e9,
        folder=folder,
        identity="mine",
        precision="fp32",
    )
    return lambda **changes: replace(first, **changes)


@pytest.fixture
def worker(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Stint], Any]]:
    """Starts workers in this process, as Ray would in another one, and ends them after the test."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "ray"))
    workers: list[Any] = []

    from trainables.trainable import Trainable  # it loads Ray

    class WithData(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, data=dataset, device="cpu", threads=1, gpus=0.0)

    def start(stint: Stint) -> Any:
        workers.append(WithData({"stint": stint}))
        return workers[-1]

    gc.freeze()  # or each collection looks through all that other tests have imported
    yield start
    for one in workers:
        one.stop()
    gc.unfreeze()
