"""Weights as a path: checked by the driver, sent to the workers, and the same when a search goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from search.results import Results
from search.run import resume, run
from search.settings import Settings, UsageError
from trainables import checkpoint
from trainables.models.pretrained_network import build_backbone

pytestmark = pytest.mark.slow
Found = tuple[Results, dict[str, torch.Tensor]]

SPACE = """
from trainables.config import OptimizerConfig, TrialConfig
from trainables.models.pretrained import PretrainedConfig

ARCHITECTURES = ("mobilenet_v2",)

def suggest(trial, task):
    model = PretrainedConfig(
        architecture="mobilenet_v2",
        weights=task.weights,
        unfrozen=trial.suggest_categorical("unfreeze", ["head"]),
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
        input_size=32,
    )
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1)
    return TrialConfig(model=model, optimizer=optimizer)
"""


def weights(path: Path, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = build_backbone("mobilenet_v2")[0].state_dict()
    save_file(state, path)
    return state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return Settings(
        space="pretrained_space",
        dataset="digits",
        image_size=8,
        trials=2,
        max_epochs=1,
        max_concurrent=1,
        cpus_per_trial=1,
        device="cpu",
        precision="fp32",
        weights=str(folder / "mine.safetensors"),
        storage=folder / "results",
        name="run",
        quiet=True,
    )


@pytest.fixture(scope="module")
def found(shared_ray: None, folder: Path, settings: Settings) -> Any:
    """The search's results, and the weights that it began with."""
    (folder / "pretrained_space.py").write_text(SPACE, encoding="utf-8")
    state = weights(folder / "mine.safetensors", seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        yield run(settings), state
        sys.modules.pop("pretrained_space", None)


def test_every_trial_begins_with_the_weights_of_the_file(
    found: tuple[Results, dict[str, torch.Tensor]],
) -> None:
    results, state = found
    assert results.stopped == "finished"
    assert len(results.trials) == 2
    for number in (0, 1):
        saved = checkpoint.load(results.folder.trial(number))
        assert saved is not None
        model = saved["training"]["model"]
        for name, tensor in state.items():  # a frozen backbone still has them at the end
            assert torch.equal(model[f"backbone.{name}"], tensor)
        assert len(results.config_of(number).model.weights) == 16


def test_best_model_is_loaded_without_the_file(found: Found, folder: Path) -> None:
    results, _ = found
    file = folder / "mine.safetensors"
    file.rename(folder / "away.safetensors")
    try:
        assert results.best_model().predict(torch.zeros(1, 8, 8, 3, dtype=torch.uint8).numpy())
    finally:
        (folder / "away.safetensors").rename(file)


def test_search_goes_on_with_the_same_weights_only(found: Found, folder: Path) -> None:
    results, state = found
    weights(folder / "others.safetensors", seed=1)
    torch.save(state, folder / "moved.pth")
    with pytest.raises(UsageError, match=r"the weights .*others\.safetensors changed since"):
        resume(results.folder.path, weights=str(folder / "others.safetensors"))
    again = resume(results.folder.path, weights=str(folder / "moved.pth"), trials=3)
    assert len(again.trials) == 3
    assert {len(again.config_of(number).model.weights) for number in range(3)} == {16}


def test_wrong_weights_are_refused_before_anything_trains(
    found: Found, settings: Settings, folder: Path
) -> None:
    (folder / "cut.pth").write_bytes(b"PK\x03\x04")
    save_file({"conv1.weight": torch.zeros(1)}, folder / "odd.safetensors")
    for name, expected in (
        ("cut.pth", "cannot be read as weights"),
        ("odd.safetensors", "does not fit mobilenet_v2: missing features.0.0.weight"),
        ("none.pth", "there is no file"),
    ):
        with pytest.raises(ValueError, match=expected):
            run(replace(settings, weights=str(folder / name), name="refused"))
    assert not (folder / "results" / "refused").exists()
