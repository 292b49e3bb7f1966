import numpy as np
import pytest

from trainables.data import Part
from trainables.data.measure import channel_statistics, fingerprint

NAMES = ("a", "b")


def part(seed: int, count: int = 6) -> Part:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return Part(images=images, labels=rng.integers(0, 2, count))


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_statistics_are_those_of_numpy_whatever_the_chunk(count: int) -> None:
    images = part(0, count).images
    images[..., 2] //= 3
    mean, std = channel_statistics(images)
    assert mean == pytest.approx((images / 255).mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx((images / 255).std(axis=(0, 1, 2)), abs=1e-9)


def test_white_images_do_not_overflow_and_do_not_vary() -> None:
    mean, std = channel_statistics(np.full((5000, 4, 4, 3), 255, dtype=np.uint8))
    assert mean == (1.0, 1.0, 1.0)
    assert std == (0.0, 0.0, 0.0)


def test_fingerprint_is_sixteen_hex_digits_and_repeats() -> None:
    found = fingerprint(NAMES, part(0), part(1))
    assert found == fingerprint(NAMES, part(0), part(1))
    assert len(found) == 16
    int(found, 16)


def test_fingerprint_sees_names_pixels_labels_and_split() -> None:
    train, val = part(0), part(1)
    pixel = Part(images=train.images.copy(), labels=train.labels)
    pixel.images[3, 2, 1, 0] ^= 1
    label = Part(images=train.images, labels=1 - train.labels)
    moved_train = Part(
        images=np.concatenate([train.images, val.images[:1]]), labels=np.append(train.labels, val.labels[:1])
    )
    moved_val = Part(images=val.images[1:], labels=val.labels[1:])
    found = {
        fingerprint(NAMES, train, val),
        fingerprint(("a", "c"), train, val),
        fingerprint(NAMES, pixel, val),
        fingerprint(NAMES, label, val),
        fingerprint(NAMES, val, train),
        fingerprint(NAMES, moved_train, moved_val),
    }
    assert len(found) == 6
