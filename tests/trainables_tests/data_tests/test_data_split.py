import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.split import stratified_split


def labels_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 60), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_every_image_is_on_one_side_and_every_class_on_both(sizes, fraction, seed) -> None:
    labels = labels_of(sizes)
    kept, held_out = stratified_split(labels, fraction, seed)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    assert set(labels[kept]) == set(labels[held_out]) == set(range(len(sizes)))
    room = len(labels) - len(sizes)
    assert len(held_out) == min(max(round(len(labels) * fraction), len(sizes)), room)


def test_rounding_per_class_keeps_the_total() -> None:
    # 10 classes of 7: each rounded by itself would hold out 10 (or none), not 7 + the guaranteed ones
    _, held_out = stratified_split(labels_of([15] * 10), 0.1, seed=0)
    assert len(held_out) == 15
    assert set(np.bincount(labels_of([15] * 10)[held_out])) == {1, 2}


def test_classes_keep_their_shares() -> None:
    labels = labels_of([1000, 100, 10])
    _, held_out = stratified_split(labels, 0.2, seed=3)
    assert np.bincount(labels[held_out]).tolist() == [200, 20, 2]


def test_order_of_the_labels_does_not_matter_to_the_shares() -> None:
    labels = np.random.default_rng(0).permutation(labels_of([50, 30, 20]))
    _, held_out = stratified_split(labels, 0.1, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [5, 3, 2]


def test_same_seed_same_split_other_seed_another() -> None:
    labels = labels_of([50, 50])
    one, again, other = (stratified_split(labels, 0.1, seed)[1] for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_larger_share_contains_the_smaller() -> None:
    labels = labels_of([40, 60])
    small, large = (set(stratified_split(labels, fraction, 7)[1]) for fraction in (0.1, 0.3))
    assert small < large


def test_both_sides_are_in_the_order_of_the_source() -> None:
    for side in stratified_split(labels_of([20, 20]), 0.25, seed=5):
        assert (np.diff(side) > 0).all()


def test_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(AssertionError):
        stratified_split(labels_of([5, 1]), 0.5, seed=0)
