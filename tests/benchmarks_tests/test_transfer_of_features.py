import pytest
import torch

from benchmarks.transfer import Setting, compare, only
from trainables.data import load_dataset


def test_classes_are_chosen_and_renumbered():
    digits = load_dataset("digits")
    few = only(digits, [7, 2], images=3, seed=1)
    assert few.class_names == ("7", "2")
    assert few.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    of_seven = {image.tobytes() for image in digits.train.images[digits.train.labels == 7]}
    assert {image.tobytes() for image in few.train.images[:3]} <= of_seven
    assert len(few.val) == ((digits.val.labels == 7) | (digits.val.labels == 2)).sum()
    assert (only(digits, [7, 2], images=3, seed=2).train.images != few.train.images).any()


@pytest.mark.slow
def test_what_was_learnt_of_some_digits_helps_with_others_and_unfreezing_matters():
    setting = Setting(
        architecture="resnet18",
        input_size=32,
        pretraining_epochs=3,
        epochs=15,
        images=5,
        device=torch.device("cpu"),
    )
    mean = compare(load_dataset("digits"), range(5), setting, seeds=3).mean()
    assert mean["unfrozen: all"] > mean["from scratch"] + 0.05
    assert mean["unfrozen: all"] > mean["unfrozen: head"] + 0.05
