"""The evaluation of runs whose networks were never trained: what is asked of whom, and what is said of it."""

from __future__ import annotations

import ast
import base64
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from PIL import Image

from search.database import sqlite_url
from search.evaluate import main
from search.evaluation import evaluate
from search.final import PLAN, plan_of
from search.results import Results, RunFolder
from search.settings import Settings, UsageError
from search.study import Outcome, StudyRecord
from trainables import checkpoint
from trainables.classifier import load_classifier, save_classifier
from trainables.config import OptimizerConfig, Task, TrialConfig, to_json
from trainables.data import load_dataset, load_test
from trainables.models.cnn import CnnConfig

ROOT = Path(__file__).parents[2]
CONFIG = TrialConfig(
    model=CnnConfig(widths=((4,), (8,))), optimizer=OptimizerConfig(name="sgd", learning_rate=0.1)
)
CLASSES = ("cat", "d$o$g", "frog", "g[red]oat")


def _pictures(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")


class Run:
    """A run folder as a search leaves it, over a data set of its own."""

    def __init__(
        self, root: Path, new_database: Callable[[Path], None], *, test: bool, outcome: Outcome = "complete"
    ) -> None:
        self.images, self.folder = root / "images", RunFolder(root / "results" / "mine")
        for seed, name in enumerate(CLASSES):
            _pictures(self.images / "train" / name, 10, seed)
            if test:
                _pictures(self.images / "test" / name, 9, 100 + seed)
        self.settings = Settings(dataset=str(self.images), data_dir=root / "data", val_fraction=0.3, seed=5)
        self.dataset = load_dataset(str(self.images), data_dir=root / "data", val_fraction=0.3, seed=5)
        self.task = Task(image_size=12, classes=4, train_images=28, max_epochs=1)
        self.folder.path.mkdir(parents=True)
        self.folder.write_json(
            "settings.json",
            {
                "settings": self.settings.to_json(),
                "task": {},
                "study": "mine",
                "dataset": self.dataset.name,
                "hashes": {"data": self.dataset.fingerprint},
            },
        )
        new_database(self.folder.database)
        record = StudyRecord("mine", "maximize", sqlite_url(self.folder.database))
        record.set_attributes(
            {"run": "mine", "dataset": self.dataset.name, "note": "", "stopped": "finished"}
        )
        for number, score in enumerate((0.25, 0.5)):
            self._trial(record, number, score, outcome)
        record.close()
        self.save(self.folder.best, seed=1)

    def _trial(self, record: StudyRecord, number: int, score: float, outcome: Outcome) -> None:
        baseline = ("plain", {"width": 8}) if number == 0 else None
        record.ask(optuna.samplers.RandomSampler(0), lambda trial: trial.suggest_int("width", 4, 8), baseline)
        record.begin(number, {"config": to_json(CONFIG)})
        record.report(number, 1, score)
        record.tell(number, outcome, score if outcome == "complete" else None)
        state = {"identity": "x", "scored": self.weights(number)}
        checkpoint.save(self.folder.trial(number), 0, state)

    def weights(self, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        weights = CONFIG.model.build(self.task).state_dict()
        weights["head.1.weight"] *= 20  # or all images would look alike
        return weights

    def save(self, folder: Path, seed: int) -> None:
        save_classifier(
            folder,
            self.weights(seed),
            config=CONFIG,
            task=self.task,
            class_names=CLASSES,
            mean=self.dataset.mean,
            std=self.dataset.std,
            about={},
        )

    def refit(self, winners: int = 2) -> None:
        """The winner, trial 1, with so many seeds, then the baseline: networks of seeds 10, 11 and so on."""
        url = sqlite_url(self.folder.database)
        search = optuna.load_study(study_name="mine", storage=url)
        search.set_user_attr(PLAN, plan_of([1], 1))
        confirmed = optuna.create_study(study_name="mine/confirm", storage=url, direction="maximize")
        confirmed.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"of": 1, "seed": 0}))
        study = optuna.create_study(study_name="mine/refit", storage=url)
        for number in range(winners + 1):
            winner = number < winners
            facts = {"of": 1 if winner else 0, "name": "" if winner else "plain"}
            trial = optuna.create_trial(value=0.0, user_attrs=facts)
            study.add_trial(trial)
            self.save(self.folder.path / "refit" / f"{number:05d}", seed=10 + number)
        self.save(self.folder.best, seed=10)

    def evaluate(self, **options: Any) -> dict[str, Any]:
        return evaluate(Results(self.folder.path), **options)

    def accuracy(self, seed: int) -> float:
        """Of the network of a seed, on the part that is evaluated."""
        part = (
            load_test(self.dataset.name, data_dir=self.settings.data_dir, image_size=12) or self.dataset.val
        )
        self.save(self.images.parent / "other", seed)
        said = load_classifier(self.images.parent / "other").probabilities(part.images).argmax(1)
        return float((said == part.labels).mean())


@pytest.fixture
def a_run(tmp_path: Path, new_database: Callable[[Path], None]) -> Run:
    return Run(tmp_path, new_database, test=True)


@pytest.fixture
def run_without_test(tmp_path: Path, new_database: Callable[[Path], None]) -> Run:
    return Run(tmp_path, new_database, test=False)


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_document_has_every_field(a_run):
    document = a_run.evaluate()
    text = (a_run.folder.path / "evaluation.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=no_constant) == document
    assert list(document) == [
        "run", "dataset", "note", "part", "images", "class_names", "confirmed", "read", "models", "winner",
        "samples",
    ]  # fmt: skip
    assert (document["run"], document["part"], document["images"]) == ("mine", "test", 36)
    assert document["dataset"] == str(a_run.images)
    assert document["class_names"] == list(CLASSES)
    (model,) = document["models"]
    assert list(model) == [
        "folder", "trial", "baseline", "winner", "accuracy", "accuracy_low", "accuracy_high", "loss", "top_k",
        "precision", "recall", "f1", "per_class", "confusion", "confused", "calibration_error",
        "images_per_second", "parameters", "bytes",
    ]  # fmt: skip
    assert (model["folder"], model["trial"], model["baseline"], model["winner"]) == ("best", 1, "", True)
    assert model["accuracy"] == a_run.accuracy(1)
    assert model["accuracy_low"] < model["accuracy"] < model["accuracy_high"]
    assert np.sum(model["confusion"]) == 36
    assert model["images_per_second"] > 0
    network = load_classifier(a_run.folder.best).model
    assert model["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert model["bytes"] == (a_run.folder.best / "model.safetensors").stat().st_size
    assert document["winner"] == {
        "models": 1,
        "accuracy_mean": model["accuracy"],
        "accuracy_deviation": None,
    }
    assert Image.open(a_run.folder.path / "confusion_matrix.png").format == "PNG"


def test_best_alone_is_unconfirmed(a_run, capsys):
    assert main([str(a_run.folder.path)]) == 0
    out = capsys.readouterr().out
    assert "unconfirmed: the model as the search left it" in out
    assert not json.loads((a_run.folder.path / "evaluation.json").read_text())["confirmed"]


def test_refitted_models_are_evaluated_the_winners_first(a_run, capsys):
    a_run.refit()
    assert main([str(a_run.folder.path)]) == 0
    document = json.loads((a_run.folder.path / "evaluation.json").read_text())
    assert document["confirmed"]
    assert [(m["folder"], m["trial"], m["baseline"], m["winner"]) for m in document["models"]] == [
        ("refit/00000", 1, "", True),
        ("refit/00001", 1, "", True),
        ("refit/00002", 0, "plain", False),
    ]
    accuracies = [a_run.accuracy(10), a_run.accuracy(11), a_run.accuracy(12)]
    assert [model["accuracy"] for model in document["models"]] == accuracies
    assert accuracies[0] != accuracies[1]
    assert document["winner"] == {
        "models": 2,
        "accuracy_mean": pytest.approx(np.mean(accuracies[:2])),
        "accuracy_deviation": pytest.approx(np.std(accuracies[:2], ddof=1)),
    }
    out = capsys.readouterr().out
    assert "unconfirmed" not in out
    assert "(standard deviation of 2 seeds)" in out
    assert all(name in out for name in ("refit/00000", "plain", "trial 1", "d$o$g", "g[red]oat"))


def test_batches_change_nothing(a_run):
    whole, small = a_run.evaluate()["models"][0], a_run.evaluate(batch_size=7)["models"][0]
    assert small["confusion"] == whole["confusion"]
    assert small["loss"] == pytest.approx(whole["loss"], rel=1e-4)


def test_readings_are_counted_and_told(a_run, capsys):
    path = str(a_run.folder.path)
    assert main([path]) == 0
    assert "the test part was read for the first time" in capsys.readouterr().out
    assert main([path]) == 0
    (first, second) = Results(path).study.user_attrs["test_reads"]
    assert f"read for the 2nd time (first {first})" in capsys.readouterr().out
    read = json.loads((a_run.folder.path / "evaluation.json").read_text())["read"]
    assert read == {"count": 2, "times": [first, second]}


def test_samples_are_images_of_the_test_part_and_what_the_winner_said(a_run):
    document = a_run.evaluate()
    test = load_test(str(a_run.images), data_dir=a_run.settings.data_dir, image_size=12)
    classifier = load_classifier(a_run.folder.best)
    known = {image.tobytes(): CLASSES[label] for image, label in zip(test.images, test.labels, strict=True)}
    right = []
    for sample in document["samples"]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["png"]))))
        assert known[pixels.tobytes()] == sample["true"]
        (chances,) = classifier.probabilities(pixels[None])
        assert sample["predicted"] == CLASSES[chances.argmax()]
        assert sample["probability"] == pytest.approx(chances.max(), rel=1e-4)
        right.append(sample["true"] == sample["predicted"])
    hits = int(np.trace(document["models"][0]["confusion"]))
    assert right == [True] * min(12, hits) + [False] * min(24, 36 - hits)
    assert 0 < hits < 36
    assert a_run.evaluate()["samples"] == document["samples"]


def test_without_a_test_part_validation_is_named_and_no_reading_counted(run_without_test, capsys):
    assert main([str(run_without_test.folder.path)]) == 0
    out = capsys.readouterr().out
    assert "VALIDATION figures: the data set has no test part" in out
    assert "12 VALIDATION images" in out
    document = json.loads((run_without_test.folder.path / "evaluation.json").read_text())
    assert (document["part"], document["images"]) == ("validation", 12)
    assert document["read"] == {"count": 0, "times": []}
    assert document["models"][0]["accuracy"] == run_without_test.accuracy(1)
    assert "test_reads" not in Results(run_without_test.folder.path).study.user_attrs


def test_models_fitted_on_the_validation_part_are_not_judged_by_it(run_without_test):
    run_without_test.refit()
    document = run_without_test.evaluate()
    assert [(m["folder"], m["trial"], m["winner"]) for m in document["models"]] == [
        ("trials/00001", 1, True),
        ("trials/00000", 0, False),
    ]
    # networks of seeds 1 and 0, as the search left them
    assert [m["accuracy"] for m in document["models"]] == [
        run_without_test.accuracy(1),
        run_without_test.accuracy(0),
    ]
    assert document["winner"]["models"] == 1


def test_nothing_left_to_evaluate_on_is_said(run_without_test):
    run_without_test.refit()
    checkpoint.remove(run_without_test.folder.trial(1))
    with pytest.raises(UsageError, match="nothing is left to evaluate on; add a test/ folder"):
        run_without_test.evaluate()


def test_network_of_nan_is_evaluated_without_a_loss(a_run):
    weights = {name: tensor * torch.nan for name, tensor in a_run.weights(0).items()}
    a_run.weights = lambda seed: weights
    a_run.save(a_run.folder.best, 0)
    a_run.evaluate()
    text = (a_run.folder.path / "evaluation.json").read_text(encoding="utf-8")
    (model,) = json.loads(text, parse_constant=no_constant)["models"]
    assert (model["loss"], model["calibration_error"]) == (None, None)


def refused(a_run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line; and nothing was read, nothing written."""
    assert main([str(a_run.folder.path), *words]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert not (a_run.folder.path / "evaluation.json").exists()
    assert "test_reads" not in Results(a_run.folder.path).study.user_attrs
    assert "Evaluating" not in out
    return err


def test_module_of_networks_that_is_not_there_is_named(a_run, capsys):
    assert "--networks none: there is no module none" in refused(a_run, capsys, "--networks", "none")


def test_changed_data_set_is_refused(a_run, capsys):
    image = a_run.images / "train" / "cat" / "0.png"
    Image.new("RGB", (12, 12)).save(image)
    assert "is not what it was when" in refused(a_run, capsys)


def test_missing_data_set_is_refused(a_run, capsys):
    shutil.rmtree(a_run.images)
    assert "no such file or folder" in refused(a_run, capsys)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_model_costs_no_reading(a_run, capsys, name):
    a_run.refit()
    (a_run.folder.path / "refit" / "00002" / name).write_bytes(b"damaged")
    assert f"refit/00002/{name}" in refused(a_run, capsys)


def test_search_that_goes_on_is_refused(a_run, capsys):
    holder = {"host": "another", "pid": 1, "started": "", "time": 2e10}
    a_run.folder.write_json("driver.json", holder)
    assert "is being searched by process 1 on another: wait for it" in refused(a_run, capsys)


def test_search_that_was_cut_off_is_refused_with_the_way_on(a_run, capsys):
    shutil.rmtree(a_run.folder.best)
    error = refused(a_run, capsys)
    assert "has no final model" in error
    assert f"--resume {a_run.folder.path}" in error


def test_winner_that_was_not_refitted_is_evaluated_as_the_search_left_it(a_run):
    a_run.refit(winners=0)
    document = a_run.evaluate()
    assert [(model["folder"], model["trial"]) for model in document["models"]] == [
        ("best", 1),
        ("refit/00000", 0),
    ]
    assert not document["confirmed"]


def test_run_without_a_complete_trial_is_refused(tmp_path, new_database, capsys):
    run = Run(tmp_path, new_database, test=True, outcome="pruned")
    error = refused(run, capsys)
    assert "has no complete trial" in error
    assert f"--resume {run.folder.path}" in error


def test_options_are_checked(a_run, capsys):
    assert "--batch-size must be from 1 to 500, but is 501" in refused(a_run, capsys, "--batch-size", "501")
    if not torch.cuda.is_available():
        assert "--device cuda: there is no GPU here" in refused(a_run, capsys, "--device", "cuda")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("INSERT INTO nowhere VALUES (1)", "cannot be noted in the study, so it is not used: no such table"),
        ("SELECT RAISE(ABORT, 'the same key')", "is being read by another evaluation at this moment"),
    ],
)
def test_reading_that_cannot_be_noted_is_none(a_run, capsys, action, expected):
    with sqlite3.connect(a_run.folder.database) as database:
        database.execute(f"CREATE TRIGGER broken BEFORE INSERT ON study_user_attributes BEGIN {action}; END")
    assert expected in refused(a_run, capsys)


def test_test_part_is_read_in_one_place():
    users = set()
    for package in ("search", "spaces", "trainables"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            names = {getattr(node, "attr", getattr(node, "name", None)) for node in tree}
            if "load_test" in names and file.parent != ROOT / "trainables" / "data":
                users.add(file.relative_to(ROOT).as_posix())
    assert users == {"search/held_out.py"}
