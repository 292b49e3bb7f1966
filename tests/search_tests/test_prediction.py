import csv
import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from search.prediction import Prediction, predictions, written

NAMES = ("cat", "dog", "großes Tier")


class Recorder:
    """Stands for a network: class 0 is as probable as the image is red; remembers how many came at a time."""

    task = SimpleNamespace(image_size=4)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        red = images[..., 0].mean((1, 2)) / 255
        return np.stack([red, 1 - red, 0 * red], 1).astype(np.float32)


@pytest.fixture
def image(tmp_path: Path):
    from PIL import Image

    def save(name: str, red: int = 255) -> Path:
        Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / name)
        return tmp_path / name

    return save


def refuse(line: str) -> None:
    raise AssertionError(line)


def test_predictions_come_in_the_order_of_the_files_over_batches(image):
    paths = [image(f"{red}.png", red) for red in (255, 0, 102, 51, 204)]
    network = Recorder()
    found = list(predictions(network, paths, refuse, batch=2))
    assert [one.path for one in found] == paths
    np.testing.assert_allclose([one.probabilities[0] for one in found], [1, 0, 0.4, 0.2, 0.8])
    assert network.batches == [2, 2, 1]


def test_files_without_end_are_never_all_in_memory(image):
    network = Recorder()
    endless = itertools.repeat(image("one.png"))
    found = predictions(network, endless, refuse, batch=3)
    assert len(list(itertools.islice(found, 7))) == 7
    assert network.batches == [3, 3, 3]


def test_what_is_no_image_is_named_and_the_others_go_on(image, tmp_path):
    good = image("good.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-20])
    bad = [tmp_path / name for name in ("text.png", "cut.png", "none.png", "")]
    complaints: list[str] = []
    found = list(predictions(Recorder(), [bad[0], good, *bad[1:]], complaints.append, batch=2))
    assert [one.path for one in found] == [good]
    assert [line.split(":")[0] for line in complaints] == [str(path) for path in bad]
    assert complaints[0].endswith("not an image that Pillow knows")
    assert complaints[2].endswith("no such file")
    assert complaints[3].endswith("not a regular file")
    assert all("\n" not in line for line in complaints)


def test_network_that_answers_with_nan_is_refused(image):
    network = Recorder()
    network.probabilities = lambda images: np.full((len(images), 3), np.nan, np.float32)
    with pytest.raises(ValueError, match="its training diverged"):
        list(predictions(network, [image("a.png")], refuse))


FOUND = [
    Prediction(Path("a, b.png"), np.array([0.25, 0.5, 0.25], np.float32)),
    Prediction(Path("c\x1b\n.png"), np.array([0, 0, 1], np.float32)),
]


def text(form: str, top: int, found=FOUND) -> str:
    return "".join(written(form, found, NAMES, top))


def test_table_has_a_line_a_label():
    assert text("table", 1).splitlines() == [
        "label        probability  file",
        "dog              50.00 %  a, b.png",
        "großes Tier     100.00 %  c��.png",
    ]
    assert text("table", 2).splitlines()[1:3] == [
        "dog              50.00 %  a, b.png",
        "cat              25.00 %",
    ]


def test_csv_has_a_row_a_file():
    rows = list(csv.reader(io.StringIO(text("csv", 2), newline="")))
    assert rows == [
        ["file", "label", "probability", "label_2", "probability_2"],
        ["a, b.png", "dog", "0.5", "cat", "0.25"],
        ["c\x1b\n.png", "großes Tier", "1.0", "cat", "0.0"],
    ]


@pytest.mark.parametrize("name", ["a\rb,c.png", "a\nb.png", 'a"b.png'])
def test_csv_gives_back_any_name_of_a_file(name):
    one = Prediction(Path(name), np.array([1.0, 0.0, 0.0], np.float32))
    found = "".join(written("csv", [one], NAMES, 1))
    assert found.endswith("\n")
    assert not found.endswith("\r\n")
    assert list(csv.reader(io.StringIO(found, newline="")))[1][0] == name


def test_json_is_an_array_of_files():
    document = json.loads(text("json", 3))
    assert document[0] == {
        "file": "a, b.png",
        "label": "dog",
        "probability": 0.5,
        "top": [
            {"label": "dog", "probability": 0.5},
            {"label": "cat", "probability": 0.25},
            {"label": "großes Tier", "probability": 0.25},
        ],
    }
    assert [row["file"] for row in document] == ["a, b.png", "c\x1b\n.png"]


def test_nothing_predicted_is_still_a_document():
    assert json.loads(text("json", 1, [])) == []
    assert text("csv", 1, []) == "file,label,probability\n"
    assert text("table", 1, []) == "label        probability  file\n"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_each_file_is_written_as_soon_as_it_is_known(form):
    endless = itertools.repeat(FOUND[0])
    pieces = written(form, endless, NAMES, 1)
    assert "a, b.png" in "".join(itertools.islice(pieces, 2))
