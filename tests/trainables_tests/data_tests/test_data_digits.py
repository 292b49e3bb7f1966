import csv
import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trainables.data import DataError, load_dataset, load_test
from trainables.data.digits import _read


def test_digits_are_colour_images_of_32_pixels_in_ten_classes(data_dir: Path) -> None:
    digits = load_dataset("digits", data_dir=data_dir)
    assert (digits.name, digits.note) == ("digits", "")
    assert digits.class_names == tuple("0123456789")
    for part, images in ((digits.train, 1294), (digits.val, 144)):
        assert part.images.shape == (images, 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.images.flags.c_contiguous
        assert part.labels.dtype == np.int64
        assert set(part.labels) == set(range(10))
        assert len(part) == images
    assert not data_dir.exists()


def test_parts_together_are_all_digits_that_sklearn_ships() -> None:
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets/data/digits.csv.gz", "rt") as file:
        rows = [[round(float(value)) for value in row] for row in csv.reader(file)]
    original = [(bytes(round(value * 255 / 16) for value in row[:64]), row[64]) for row in rows]
    digits, test = load_dataset("digits", image_size=8), load_test("digits", image_size=8)
    assert test is not None
    ours = [
        (image[..., 0].tobytes(), label)
        for part in (digits.train, digits.val, test)
        for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert sorted(ours) == sorted(original)


def test_digits_come_from_sklearn_itself_where_its_file_has_moved(monkeypatch) -> None:
    expected = load_test("digits")
    values, labels = np.zeros((1797, 64)), np.arange(1797) % 10
    bunch = SimpleNamespace(data=values, target=labels)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", SimpleNamespace(load_digits=lambda: bunch))
    _read.cache_clear()
    try:
        found = load_test("digits")
    finally:
        _read.cache_clear()
    assert expected is not None
    assert found is not None
    assert len(found) == 359
    assert found.images.max() == 0 < expected.images.max()


def test_test_part_is_a_fifth_and_does_not_move_with_the_seed() -> None:
    one, two = load_test("digits", seed=0), load_test("digits", seed=1)
    assert one is not None
    assert two is not None
    assert len(one) == 359
    assert one.images.tobytes() == two.images.tobytes()


def test_seed_moves_the_validation_part_only() -> None:
    one, two, again = (load_dataset("digits", seed=seed) for seed in (0, 1, 0))
    assert one.fingerprint == again.fingerprint != two.fingerprint
    both = [sorted(image.tobytes() for part in (d.train, d.val) for image in part.images) for d in (one, two)]
    assert both[0] == both[1]


def test_fraction_sets_the_size_of_the_validation_part() -> None:
    assert len(load_dataset("digits", val_fraction=0.5).val) == 719


def test_enlarged_digits_are_smooth() -> None:
    images = load_dataset("digits").train.images[:50]
    steps = np.abs(np.diff(images[..., 0].astype(int), axis=1))
    assert steps.max() < 160  # nearest neighbours would jump by up to 255


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match=f"val_fraction must lie between 0 and 1, but is {fraction}"):
        load_dataset("digits", val_fraction=fraction)


def test_impossible_size_and_seed_are_refused() -> None:
    with pytest.raises(DataError, match="image_size must be at least 1 pixel, but is 0"):
        load_dataset("digits", image_size=0)
    with pytest.raises(DataError, match="seed must be at least 0, but is -1"):
        load_test("digits", seed=-1)


def test_reading_digits_does_not_import_sklearn() -> None:
    code = (
        "import sys\nfrom trainables.data import load_dataset\nload_dataset('digits')\n"
        "assert not {'sklearn', 'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
