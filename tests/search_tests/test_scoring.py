import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from search.scoring import calibration_error, confused_pairs, deviation, score

NAMES = ("cat", "dog", "frog", "ship")


def drawn(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are right more often than not."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) * 2
    logits[np.arange(images), labels] += 2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, shares.astype(np.float32)


def said(predicted: list[int], classes: int, confidence: float = 1.0) -> np.ndarray:
    shares = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    shares[np.arange(len(predicted)), predicted] = confidence
    return shares


def test_figures_of_a_small_case_are_those_of_pencil_and_paper():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    found = score(labels, said([0, 0, 1, 1, 1, 1, 2, 0], 3, 0.8), ("cat", "dog", "frog"))
    assert found["accuracy"] == 5 / 8
    assert found["confusion"] == [[2, 2, 0], [0, 2, 0], [1, 0, 1]]
    assert found["confused"] == [
        {"true": "cat", "predicted": "dog", "images": 2},
        {"true": "frog", "predicted": "cat", "images": 1},
    ]
    assert found["per_class"] == [
        {"class": "cat", "images": 4, "precision": 2 / 3, "recall": 0.5, "f1": pytest.approx(4 / 7)},
        {"class": "dog", "images": 2, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)},
        {"class": "frog", "images": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
    ]
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(-(5 * math.log(0.8) + 3 * math.log(0.1)) / 8)
    assert found["calibration_error"] == pytest.approx(0.8 - 5 / 8)
    assert found["top_k"] == {"1": 5 / 8}  # 3 of 3 would always hold


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)]
)
def test_interval_is_wilsons(hits, images, low, high):
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I
    predicted = [0] * hits + [1] * (images - hits)
    found = score(np.zeros(images, np.int64), said(predicted, 2, 0.9), NAMES[:2])
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((low, high), abs=5e-5)


def test_loss_is_the_cross_entropy_of_training():
    import torch

    labels, shares = drawn(500, 4)
    logits = torch.from_numpy(shares).log()
    expected = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
    assert score(labels, shares, NAMES)["loss"] == pytest.approx(expected, rel=1e-5)


def test_top_k_counts_the_true_class_among_the_first():
    labels, shares = drawn(300, 7)
    found = score(labels, shares, tuple("abcdefg"))["top_k"]
    place = (shares > shares[np.arange(300), labels][:, None]).sum(1)
    assert found == {str(k): pytest.approx((place < k).mean()) for k in (1, 3, 5)}


def test_two_classes_have_no_top_three():
    labels, shares = drawn(50, 2)
    assert list(score(labels, shares, NAMES[:2])["top_k"]) == ["1"]


def test_class_without_images_is_in_the_table_but_not_in_the_mean():
    labels, shares = drawn(100, 3)
    found = score(labels, np.hstack([shares, np.zeros((100, 1), np.float32)]), NAMES)
    assert found["per_class"][3] == {"class": "ship", "images": 0, "precision": 0, "recall": 0, "f1": 0}
    assert found["f1"] == pytest.approx(f1_score(labels, shares.argmax(1), average="macro"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_network_that_answers_with_no_numbers_has_figures_that_json_knows(bad):
    found = score(np.array([0, 1, 2, 3]), np.full((4, 4), bad, np.float32), NAMES)
    assert found["loss"] is None
    assert found["calibration_error"] is None
    assert found["accuracy"] == 0.25
    json.dumps(found, allow_nan=False)


def test_certain_and_wrong_is_a_finite_loss():
    found = score(np.array([0, 1]), said([1, 0], 2).astype(np.float32), NAMES[:2])
    assert 30 < found["loss"] < 40
    assert found["calibration_error"] == 1.0


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 1000))
def test_calibration_error_is_that_of_the_definition(images, classes, seed):
    labels, shares = drawn(images, classes, seed)
    confidence, right = shares.max(1), shares.argmax(1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(labels, shares) == pytest.approx(expected, abs=1e-6)


def test_most_confused_pairs_come_first_and_there_are_ten_of_them():
    confusion = np.arange(25).reshape(5, 5)
    pairs = confused_pairs(confusion, tuple("abcde"))
    assert [pair["images"] for pair in pairs] == [23, 22, 21, 20, 19, 17, 16, 15, 14, 13]
    assert (pairs[0]["true"], pairs[0]["predicted"]) == ("e", "d")
    assert confused_pairs(np.diag([3, 4]), ("a", "b")) == []


def test_one_value_has_no_deviation():
    assert deviation([0.5]) is None
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
