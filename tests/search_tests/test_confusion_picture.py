import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from search.confusion_picture import draw_confusion


def document(names: list[str], **changes) -> dict:
    confusion = np.eye(len(names), dtype=int) * 90 + 1
    model = {"confusion": confusion.tolist(), "accuracy": 0.9, "trial": 3, "baseline": ""}
    return {
        "run": "mine",
        "class_names": names,
        "part": "test",
        "images": 1000,
        "confirmed": True,
        "models": [model],
        **changes,
    }


@pytest.fixture
def texts(monkeypatch) -> Callable[[], list[str]]:
    """What has been written into pictures, each text once however often it is drawn."""
    from matplotlib.text import Text

    found: dict[Text, str] = {}
    draw = Text.draw

    def noted(self: Text, *rest: object) -> None:
        found[self] = self.get_text()
        draw(self, *rest)

    monkeypatch.setattr(Text, "draw", noted)
    return lambda: list(found.values())


@pytest.mark.parametrize(("classes", "side"), [(2, 600), (10, 1000), (200, 2000)])
def test_picture_grows_with_the_classes_up_to_a_limit(tmp_path, classes, side):
    draw_confusion(document([f"class {number}" for number in range(classes)]), tmp_path / "out.png")
    width, height = Image.open(tmp_path / "out.png").size
    assert side <= min(width, height)
    assert max(width, height) < 2600


def test_every_class_is_named_and_few_have_their_counts(tmp_path, texts):
    draw_confusion(document(["cat", "dog", "frog"]), tmp_path / "out.png")
    assert texts().count("91") == 3
    assert texts().count("1") == 6
    assert {"cat", "dog", "frog"} <= set(texts())
    assert "mine: trial 3\n90.00 % of 1,000 test images right" in texts()


def test_many_classes_are_named_but_not_counted(tmp_path, texts):
    names = [f"n{number}" for number in range(100)]
    draw_confusion(document(names), tmp_path / "out.png")
    assert set(names) <= set(texts())
    assert "91" not in texts()


def test_picture_says_what_it_is_not(tmp_path, texts):
    draw_confusion(document(["a", "b"], confirmed=False, part="validation"), tmp_path / "out.png")
    assert "mine: trial 3, unconfirmed\n90.00 % of 1,000 validation images right" in texts()


def test_names_are_no_mathematics_and_may_be_in_any_script(tmp_path, texts):
    names = [r"$\frac$", "猫", "line\nbreak\x1b", "x" * 99, "\udcff"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(document(names, run=r"$\nope$"), tmp_path / "out.png")
    assert r"$\frac$" in texts()
    assert f"{'x' * 23}…" in texts()


def test_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        draw_confusion(document(["a", "b"]), tmp_path / "none" / "out.png")
