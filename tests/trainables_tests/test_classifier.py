import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.classifier import Classifier, load_classifier, save_classifier
from trainables.data import Dataset
from trainables.training import Training


@pytest.fixture(scope="module")
def trained(make_config, task, data) -> Training:
    training = Training(make_config(averaging="ema"), task, data, seed=0)
    training.run_epoch()
    return training


@pytest.fixture
def folder(trained: Training, dataset: Dataset, tmp_path: Path) -> Path:
    """The classifier as it was saved."""
    save_classifier(
        tmp_path / "best",
        trained.scored_weights(),
        config=trained.config,
        task=trained.task,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        about={"trial": 7, "note": "größer"},
    )
    return tmp_path / "best"


def test_saved_classifier_scores_as_validation_did(folder, trained, dataset):
    classifier = load_classifier(folder)
    probabilities = classifier.probabilities(dataset.val.images)
    assert probabilities.shape == (30, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    loss, confusion = trained.validate()
    own = -np.log(probabilities[np.arange(30), dataset.val.labels]).mean()
    assert own == pytest.approx(loss, rel=1e-4)
    names = [dataset.class_names[i] for i in probabilities.argmax(1)]
    assert classifier.predict(dataset.val.images) == names
    hits = sum(name == dataset.class_names[i] for name, i in zip(names, dataset.val.labels, strict=True))
    assert hits == confusion.diagonal().sum()


def test_loaded_classifier_equals_the_saved_one(folder, trained, dataset):
    network = trained.config.model.build(trained.task)
    network.load_state_dict(trained.scored_weights())
    saved = Classifier(
        model=network,  # in training mode: predictions must not drop anything out
        config=trained.config,
        task=trained.task,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
    )
    loaded = load_classifier(str(folder))
    # the one network has its memory as channels_last, the other not: the last bit may differ
    np.testing.assert_allclose(
        loaded.probabilities(dataset.val.images), saved.probabilities(dataset.val.images), rtol=1e-5
    )
    assert (loaded.config, loaded.task) == (saved.config, saved.task)
    assert (loaded.class_names, loaded.mean, loaded.std) == (saved.class_names, saved.mean, saved.std)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["about"]
    assert about == {"trial": 7, "note": "größer"}


def test_image_does_not_depend_on_the_others(folder, dataset, monkeypatch):
    classifier = load_classifier(folder)
    together = classifier.probabilities(dataset.val.images)
    monkeypatch.setattr("trainables.classifier._BATCH", 7)
    np.testing.assert_allclose(classifier.probabilities(dataset.val.images), together, rtol=1e-5)


def test_no_images_give_no_probabilities(folder):
    classifier = load_classifier(folder)
    empty = np.zeros((0, 8, 8, 3), np.uint8)
    probabilities = classifier.probabilities(empty)
    assert (probabilities.shape, probabilities.dtype) == ((0, 3), np.float32)
    assert classifier.predict(empty) == []


def test_mirrored_view_and_read_only_images_are_taken(folder, dataset):
    classifier = load_classifier(folder)
    view = dataset.val.images[:, :, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(classifier.probabilities(view), classifier.probabilities(view.copy()))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 9, 8, 3), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
    ],
)
def test_other_images_are_refused(images, folder):
    with pytest.raises(ValueError, match=r"uint8 of shape \(N, 8, 8, 3\)") as caught:
        load_classifier(folder).probabilities(images)
    assert str(images.shape) in str(caught.value)
    assert str(images.dtype) in str(caught.value)


def test_channel_without_variation_is_no_division_by_zero(folder, dataset):
    loaded = load_classifier(folder)
    classifier = Classifier(**{**vars(loaded), "std": (0.0, *loaded.std[1:])})
    assert np.isfinite(classifier.probabilities(dataset.val.images)).all()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name) as caught:
        load_classifier(folder)
    assert str(folder) in str(caught.value)


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_of_another_network_are_refused(folder, trained):
    document = json.loads((folder / "config.json").read_text())["config"]
    change(folder, config=document | {"model": document["model"] | {"widths": [[8], [9]]}})
    with pytest.raises(ValueError, match=r"model\.safetensors.*stage2\.0\.weight") as caught:
        load_classifier(folder)
    assert len(str(caught.value)) < len(str(folder)) + 500


@pytest.mark.parametrize("content", [b"", b"nothing that could be weights"])
def test_damaged_weights_are_named(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_classifier(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"classes": 3}},
        {"task": {"image_size": 8, "classes": 1, "train_images": 1, "max_epochs": 1}},
        {"config": {}},
        {"config": None},
        {"class_names": None},
        {"class_names": ["red", "green"]},
    ],
)
def test_impossible_settings_are_named(changes, folder):
    change(folder, **changes)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_classifier(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_settings_are_named(content, folder):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_classifier(folder)


def test_a_file_does_not_say_what_code_runs(folder, tmp_path, monkeypatch):
    """A model from elsewhere, unpacked below a folder that Python looks in, with a module of its own."""
    (tmp_path / "their_networks.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('run').touch()\n"
        "from trainables.models.cnn import CnnConfig\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_networks", raising=False)
    document = json.loads((folder / "config.json").read_text())
    document["config"]["model"]["type"] = "their_networks:CnnConfig"
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="their_networks:CnnConfig is not of this project: if you trust"):
        load_classifier(folder)
    assert not (tmp_path / "run").exists()
    importlib.import_module("their_networks")
    assert load_classifier(folder).config.model is not None


def test_classifier_can_be_saved_again(folder, trained, dataset):
    weights = {name: torch.zeros_like(t) for name, t in trained.scored_weights().items()}
    loaded = load_classifier(folder)
    save_classifier(
        folder,
        weights,
        config=loaded.config,
        task=loaded.task,
        class_names=loaded.class_names,
        mean=loaded.mean,
        std=loaded.std,
        about={},
    )
    again = load_classifier(folder).probabilities(dataset.val.images)
    np.testing.assert_allclose(again, 1 / 3, rtol=1e-6)
