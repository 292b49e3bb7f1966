"""`python -m search.predict` over a small network that was trained for no time at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.image_files import find_images
from search.predict import main
from search.prediction import predictions

ROOT = Path(__file__).parents[2]
SIZE = 12
CLASSES = ("cat", "dog", "g$\\frac$")


def _draw(number: int, place: Path) -> None:
    """An image of a size, format and mode of its own."""
    random = np.random.default_rng(number)
    height, width = random.integers(SIZE, 3 * SIZE, 2)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    match number % 4:
        case 0:
            image.save(place.with_suffix(".png"))
        case 1:
            turned = Image.Exif()
            turned[0x0112] = 6
            image.save(place.with_suffix(".jpg"), exif=turned)
        case 2:
            image.putalpha(image.convert("L"))
            image.save(place.with_suffix(".webp"), lossless=True)
        case 3:
            image.convert("L").save(place.with_suffix(".png"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a val/ folder, so that train/ is kept whole and in order."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(36):
        folder = root / ("train" if number < 24 else "val") / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        _draw(number, folder / f"{number:02d}")
    return root


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A run of which only best/ is left."""
    import torch

    from trainables.classifier import save_classifier
    from trainables.config import OptimizerConfig, Task, TrialConfig
    from trainables.models.cnn import CnnConfig

    config = TrialConfig(
        model=CnnConfig(widths=((4,), (8,))), optimizer=OptimizerConfig(name="sgd", learning_rate=0.1)
    )
    task = Task(image_size=SIZE, classes=3, train_images=24, max_epochs=1)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("results") / "mine"
    save_classifier(
        path / "best",
        config.model.build(task).state_dict(),
        config=config,
        task=task,
        class_names=CLASSES,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        about={},
    )
    return path


def test_files_get_the_probabilities_of_the_same_images_in_memory(run_path, photos, tmp_path):
    from trainables.classifier import load_classifier
    from trainables.data import load_dataset

    dataset = load_dataset(str(photos), data_dir=tmp_path, image_size=SIZE)
    classifier = load_classifier(run_path / "best")
    complaints: list[str] = []
    paths = find_images([str(photos / "train")], complaints.append)
    found = list(predictions(classifier, paths, complaints.append, batch=5))
    assert complaints == []
    assert [one.path.parent.name for one in found] == [CLASSES[label] for label in dataset.train.labels]
    np.testing.assert_allclose(
        [one.probabilities for one in found], classifier.probabilities(dataset.train.images), rtol=1e-5
    )
    # or an equal answer to all would do
    assert np.ptp([one.probabilities[0] for one in found]) > 0.01


def test_every_image_of_a_folder_is_in_the_table(run_path, photos, capsys):
    assert main([str(run_path), str(photos / "val")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["label", "probability", "file"]
    assert len(lines) == 13
    assert all(re.fullmatch(r"(cat|dog|g\$\\frac\$) +\d+\.\d\d %  .*/val/.*", line) for line in lines[1:])


@pytest.mark.parametrize("place", ["", "best"])
def test_run_or_its_best_folder_can_be_given(run_path, photos, capsys, place):
    file = str(next((photos / "val" / "cat").iterdir()))
    assert main([str(run_path / place), "--top", "3", file, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["file"] == file
    assert sum(one["probability"] for one in row["top"]) == pytest.approx(1)
    assert row["probability"] == max(one["probability"] for one in row["top"])


def test_what_is_no_image_is_named_the_others_are_predicted_and_the_status_tells(
    run_path, photos, capsys, tmp_path
):
    (tmp_path / "no\x1bte.txt").write_text("no image")
    good = str(next((photos / "val" / "cat").iterdir()))
    words = [str(run_path), str(tmp_path), good, str(tmp_path / "none.png"), "--format", "csv"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert [row["file"] for row in csv.DictReader(io.StringIO(out))] == [good]
    first, second = err.splitlines()
    assert first.endswith("no�te.txt: not an image that Pillow knows")
    assert second.endswith("none.png: no such file")


def test_output_goes_to_a_file(run_path, photos, capsys, tmp_path):
    file = tmp_path / "out.csv"
    assert main([str(run_path), str(photos / "val"), "--format", "csv", "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    with file.open(newline="", encoding="utf-8") as rows:
        assert len(list(csv.DictReader(rows))) == 12


def test_sheet_shows_what_was_predicted_and_what_is_true(run_path, photos, capsys, tmp_path, monkeypatch):
    import search.gallery

    drawn: list[search.gallery.Picture] = []
    draw = search.gallery.draw_sheet
    monkeypatch.setattr(
        search.gallery, "draw_sheet", lambda pictures, path: (drawn.extend(pictures), draw(pictures, path))
    )
    shutil.copy(next((photos / "val" / "cat").iterdir()), tmp_path / "unknown$\\frac$")
    words = [str(run_path), str(photos / "val"), str(tmp_path), "--show", str(tmp_path / "sheet.png")]
    assert main([*words, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [picture.predicted for picture in drawn] == [row["label"] for row in rows]
    assert [picture.true for picture in drawn] == [name for name in CLASSES for _ in range(4)] + [None]
    assert all(SIZE <= len(picture.pixels) < 3 * SIZE for picture in drawn)
    assert min(Image.open(tmp_path / "sheet.png").size) > 500


def test_sheet_has_the_first_images_of_many_and_says_so(run_path, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("search.gallery.MOST", 5)
    assert main([str(run_path), str(photos / "val"), "--show", str(tmp_path / "sheet.png")]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 13
    assert "--show draws the first 5 images" in err


def test_sheet_of_nothing_is_not_drawn(run_path, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main([str(run_path), str(tmp_path / "empty"), "--show", str(tmp_path / "sheet.png")]) == 1
    assert "there is no image to draw" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def refused(capsys, *words: str) -> str:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give images to classify"),
        (["a.png", "--top", "0"], "--top must be at least 1, but is 0"),
        (["a.png", "--top", "4"], "--top must be at most 3, the number of classes, but is 4"),
        (["a.png", "--show", "out.txt"], "--show out.txt must end in one of "),
        (["a.png", "--show", "none/out.png"], "there is no folder none"),
        (["a.png", "--output", "none/out.csv"], "--output none/out.csv cannot be written: No such file"),
    ],
)
def test_wrong_options_are_refused(run_path, capsys, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, str(run_path), *words)


def test_folder_without_a_network_is_refused(capsys, tmp_path):
    assert "none does not exist: give a finished run" in refused(capsys, str(tmp_path / "none"), "a.png")
    assert "holds no trained network" in refused(capsys, str(tmp_path), "a.png")


def test_networks_of_ones_own_are_used_where_they_are_named(run_path, photos, capsys, tmp_path, monkeypatch):
    shutil.copytree(run_path / "best", tmp_path / "best")
    document = (tmp_path / "best" / "config.json").read_text()
    own = document.replace("trainables.models.cnn:", "own_networks:")
    assert own != document
    (tmp_path / "best" / "config.json").write_text(own)
    (tmp_path / "own_networks.py").write_text("from trainables.models.cnn import CnnConfig\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ["best", str(photos / "val")]
    assert "give --networks own_networks" in refused(capsys, *words)
    assert "--networks none: there is no module none" in refused(capsys, *words, "--networks", "none")
    assert "--networks own_networks instead of own_networks.py" in refused(
        capsys, *words, "--networks", "own_networks.py"
    )
    assert main([*words, "--networks", "own_networks"]) == 0
    sys.modules.pop("own_networks")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_file_of_the_network_is_named(run_path, capsys, tmp_path, missing):
    shutil.copytree(run_path / "best", tmp_path / "best")
    (tmp_path / "best" / missing).unlink()
    assert f"best holds no {missing}" in refused(capsys, str(tmp_path), "a.png")


def test_damaged_weights_are_named(run_path, capsys, tmp_path):
    shutil.copytree(run_path / "best", tmp_path / "best")
    with (tmp_path / "best" / "model.safetensors").open("r+b") as file:
        file.truncate(700)
    assert "model.safetensors does not fit config.json" in refused(capsys, str(tmp_path), "a.png")


CHILD = """
import sys
from search.predict import main
status = main(sys.argv[1:])
heavy = {"ray", "optuna", "sklearn", "matplotlib", "torch"} & set(sys.modules)
print("LOADED", *sorted(heavy), file=sys.stderr)
sys.exit(status)
"""


def child(*words: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", CHILD, *words], capture_output=True, env=environment, check=False, **options
    )


def test_neither_a_study_nor_ray_is_needed(run_path, photos, tmp_path):
    copy = shutil.copytree(run_path / "best", tmp_path / "elsewhere")
    # a name that is no text, as another system may have written it
    odd = os.fsencode(shutil.copy(next((photos / "val" / "cat").iterdir()), tmp_path / "x")) + b"\xff"
    (tmp_path / "x").rename(os.fsdecode(odd))
    done = child(str(copy), str(photos / "val"), os.fsdecode(odd), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.split() == [b"LOADED", b"torch"]
    assert len(done.stdout.decode().splitlines()) == 14


def test_reader_that_has_seen_enough_is_no_error(run_path, photos, tmp_path):
    command = f"{sys.executable} -m search.predict {run_path} {photos} {photos} --format csv --top 3"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        f"{command} | true", shell=True, capture_output=True, env=environment, check=True, text=True
    )
    assert done.stderr == ""


def test_example_for_use_elsewhere_runs(run_path, photos, tmp_path, monkeypatch, capsys):
    import trainables.classifier

    _, example = (trainables.classifier.__doc__ or "").split("\n\n", 1)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "NAME").symlink_to(run_path, target_is_directory=True)
    (tmp_path / "photos").symlink_to(photos / "train" / "dog", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(textwrap.dedent(example), "example", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((photos / "train" / "dog").glob("*.jpg"))) > 0
    assert all(re.fullmatch(r"photos/\d+\.jpg (cat|dog|g.*) \d+\.\d%", line) for line in lines)
