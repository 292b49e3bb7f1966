"""A real search on digits, then its evaluation and predictions of its test images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from search.results import Results
from trainables.data import load_test

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(shared_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    from search.run import run
    from search.settings import Settings

    settings = Settings(
        dataset="digits",
        trials=2,
        max_epochs=1,
        baselines=True,  # small ones, known to be feasible
        name="tried",
        storage=tmp_path_factory.mktemp("results"),
    )
    return run(settings, console=Console(file=io.StringIO()))


def test_search_that_ended_is_evaluated_on_the_test_part(
    found: Results, capsys: pytest.CaptureFixture
) -> None:
    from search.evaluate import main

    assert main([str(found.folder.path)]) == 0
    document = json.loads((found.folder.path / "evaluation.json").read_text(encoding="utf-8"))
    test = load_test("digits")
    assert test is not None
    said = found.best_model().probabilities(test.images)
    row = next(model for model in document["models"] if model["winner"])
    assert row["trial"] == found.best["trial"]
    assert row["parameters"] == found.best["parameters"]
    assert document["images"] == len(test) == 359
    # best/ is a copy of the winner's first refit
    assert row["accuracy"] == (said.argmax(1) == test.labels).mean()
    own = said[np.arange(len(test)), test.labels].astype(np.float64)
    assert row["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    assert "the test part was read for the first time" in capsys.readouterr().out


def test_run_is_resumed_with_its_readings_on_record(found: Results) -> None:
    from search.run import resume

    before = Results(found.folder.path).study.user_attrs["test_reads"]
    results = resume(found.folder.path, console=Console(file=io.StringIO()))
    assert results.study.user_attrs["test_reads"] == before
    assert len(before) == 1


def test_image_files_are_predicted_as_the_arrays_are(
    found: Results, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from search.predict import main

    test = load_test("digits")
    assert test is not None
    for number, (pixels, label) in enumerate(zip(test.images[:40], test.labels[:40], strict=True)):
        folder = tmp_path / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    words = [str(found.folder.path), str(tmp_path), "--format", "json", "--show", str(tmp_path / "out.pdf")]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 40
    model = found.best_model()
    expected = model.probabilities(test.images[[int(Path(row["file"]).stem) for row in rows]])
    assert [row["label"] for row in rows] == [model.class_names[index] for index in expected.argmax(1)]
    assert [row["probability"] for row in rows] == pytest.approx(expected.max(1).tolist(), rel=1e-4)
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")
