import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, noise, png, two_classes, write_folder
from PIL import Image

from trainables.data import DataError, load_dataset, load_test


def refusal(root: Path, files: dict[str, bytes], data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(str(write_folder(root, files)), data_dir=data_dir)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(root))
    assert not list(data_dir.glob("decoded/*-v*")), "a refused data set must not stay in the cache"
    assert not list(data_dir.glob("decoded/partial-*"))
    return message


def test_folder_becomes_arrays_with_sorted_classes(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes(10))
    found = load_dataset(str(root), data_dir=data_dir, val_fraction=0.2)
    assert found.name == str(root)
    assert found.class_names == ("green", "red")
    assert (len(found.train), len(found.val)) == (16, 4)
    for part in (found.train, found.val):
        assert part.images.shape[1:] == (8, 8, 3)
        assert part.images.flags.c_contiguous
        assert part.images.flags.writeable
        assert (part.images[part.labels == 1][..., 0] == 200).all()
        assert (part.images[part.labels == 0][..., 1] == 200).all()
    assert found.mean == pytest.approx((found.train.images / 255).mean(axis=(0, 1, 2)))


def test_own_validation_folder_wins(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes(3, ("train", "val")))
    found = load_dataset(str(root), data_dir=data_dir, val_fraction=0.5)
    assert (len(found.train), len(found.val)) == (6, 6)
    assert found.val.images.max() == 150
    assert load_test(str(root), data_dir=data_dir) is None


def test_only_load_test_opens_the_test_part(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes(3, ("train", "val", "test")))
    load_dataset(str(root), data_dir=data_dir)
    test = load_test(str(root), data_dir=data_dir)
    assert test is not None
    assert test.images.shape == (6, 8, 8, 3)
    assert test.images.max() == 100
    for file in data_dir.glob("decoded/*/test_*.npy"):
        file.unlink()
    load_dataset(str(root), data_dir=data_dir)
    with pytest.raises(DataError, match="damaged"):
        load_test(str(root), data_dir=data_dir)


def test_path_is_relative_to_the_working_folder(tmp_path: Path, data_dir: Path, monkeypatch) -> None:
    write_folder(tmp_path / "digits", two_classes())
    monkeypatch.chdir(tmp_path)
    assert load_dataset("./digits", data_dir=data_dir).name == str(tmp_path / "digits")
    assert load_dataset("digits", data_dir=data_dir).name == "digits"


def test_clutter_is_ignored(tmp_path: Path, data_dir: Path) -> None:
    clutter = [
        "README.txt",
        ".git/config",
        "train/.DS_Store",
        "train/red/.DS_Store",
        "train/red/Thumbs.db",
        "train/red/desktop.ini",
        "train/.ipynb_checkpoints/a.png",
        "train/red/.ipynb_checkpoints/a.png",
        "train/__MACOSX/a.png",
        "__MACOSX/train/red/a.png",
        "docs/page.html",
    ]
    files = two_classes() | dict.fromkeys(clutter, b"clutter")
    found = load_dataset(str(write_folder(tmp_path / "set", files)), data_dir=data_dir)
    assert found.class_names == ("green", "red")
    assert len(found.train) + len(found.val) == 8


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"train/blue/": b""}, "train/blue holds no images"),
        ({"train/blue/.DS_Store": b""}, "train/blue holds no images"),
        ({"test/blue/0.png": png()}, "test/blue is no class of train/"),
        ({"test/red/0.png": png(), "val/blue/0.png": png()}, "val/blue is no class of train/"),
        ({"test/red/0.png": png(), "test/green/": b""}, "test/green holds no images"),
        ({"test/": b""}, "test/ holds no images"),
        ({"val/red/0.png": png()}, "val/ has no images of green"),
        ({"train/red/more/0.png": png()}, "train/red/more is a folder in a class folder"),
        ({"train/0.png": png()}, "train/0.png is not in a class folder"),
        ({"valid/red/0.png": png()}, "valid/ would be ignored; rename it to val/"),
        ({"train/blue/0.png": png()}, "class blue has 1 training image; at least 2 are needed"),
        ({"train/red/notes.txt": b"words"}, "1 file is not an image that can be read: train/red/notes.txt"),
    ],
)
def test_what_makes_no_data_set_is_refused_by_name(extra, message, tmp_path: Path, data_dir: Path) -> None:
    if "blue has 1" in message:  # the one case in which the decoded images are good
        root = write_folder(tmp_path / "set", two_classes() | extra)
        with pytest.raises(DataError, match=message):
            load_dataset(str(root), data_dir=data_dir)
    else:
        assert message in refusal(tmp_path / "set", two_classes() | extra, data_dir)


def test_class_without_test_images_is_allowed(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes() | {"test/red/0.png": png()})
    test = load_test(str(root), data_dir=data_dir)
    assert test is not None
    assert test.labels.tolist() == [1]


def test_all_damaged_files_are_counted_and_the_first_named(tmp_path: Path, data_dir: Path) -> None:
    whole = encoded(noise(0, (40, 40)), "JPEG")
    damaged = {f"train/red/bad{index}.jpg": whole[:-400] for index in range(7)}
    message = refusal(tmp_path / "set", two_classes(300) | damaged, data_dir)
    assert ": 7 files are not images that can be read: train/red/bad0.jpg (image file is truncated" in message
    assert "train/red/bad4.jpg" in message
    assert "bad5" not in message
    assert "and 2 more; replace or remove" in message


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes() | {"train/red/huge.png": b""})
    os.truncate(root / "train/red/huge.png", 2**40)
    with pytest.raises(DataError, match=r"train/red/huge.png has 1048576 MiB, more than 256 MiB"):
        load_dataset(str(root), data_dir=data_dir)


def test_broken_link_is_refused_by_name(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes())
    (root / "train/red/link.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match=r"link.png cannot be read: No such file"):
        load_dataset(str(root), data_dir=data_dir)


def test_links_to_class_folders_are_followed(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes())
    (root / "train/blue").symlink_to(root / "train/red")
    assert load_dataset(str(root), data_dir=data_dir).class_names == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(20, 20)], 20),
        ([(20, 30), (40, 20)], 20),
        ([(64, 64)], 64),
        ([(20, 20), (21, 21)], 64),
        ([(65, 65)], 64),
        ([(100, 20), (20, 20)], 20),
        ([(200, 300), (20, 20)], 64),
    ],
)
def test_size_that_suits_the_images(sizes, expected: int, tmp_path: Path, data_dir: Path) -> None:
    files = {
        f"train/{name}/{index}.png": png(size=sizes[index % len(sizes)])
        for name in "ab"
        for index in range(150)
    }
    found = load_dataset(str(write_folder(tmp_path / "set", files)), data_dir=data_dir)
    assert found.train.images.shape == (270, expected, expected, 3)
    assert (found.train.images == (10, 20, 30)).all()


def test_size_asked_for_is_kept_apart_and_one_that_was_decoded_is_used_again(
    tmp_path: Path, data_dir: Path
) -> None:
    root = str(write_folder(tmp_path / "set", two_classes()))
    for size, expected, cached in ((None, 8, 1), (8, 8, 1), (16, 16, 2), (None, 8, 2)):
        found = load_dataset(root, data_dir=data_dir, image_size=size)
        assert found.train.images.shape[1] == expected
        assert len(list(data_dir.glob("decoded/*-v*"))) == cached


def test_changed_file_is_decoded_again(tmp_path: Path, data_dir: Path) -> None:
    root = write_folder(tmp_path / "set", two_classes())
    before = load_dataset(str(root), data_dir=data_dir)
    assert load_dataset(str(root), data_dir=data_dir).fingerprint == before.fingerprint
    (root / "train/red/0.png").write_bytes(png((1, 1, 1)))
    assert load_dataset(str(root), data_dir=data_dir).fingerprint != before.fingerprint


def test_progress_adds_up_to_the_bytes_of_the_files(tmp_path: Path, data_dir: Path) -> None:
    files = two_classes(50)
    seen: list[tuple[str, int]] = []
    done = 0

    class Bar:
        def advance(self, amount: int) -> None:
            nonlocal done
            done += amount

    @contextmanager
    def progress(description: str, total: int):
        seen.append((description, total))
        yield Bar()

    root = write_folder(tmp_path / "set", files)
    load_dataset(str(root), data_dir=data_dir, progress=progress)
    assert seen == [("Decoding set", sum(map(len, files.values())))]
    assert done == seen[0][1]
    load_dataset(str(root), data_dir=data_dir, progress=progress)
    assert len(seen) == 1, "nothing is decoded twice"


def test_large_files_in_threads_keep_their_labels(tmp_path: Path, data_dir: Path) -> None:
    files = {}
    for name, shade in (("dark", 0), ("light", 128)):
        for index in range(40):
            values = np.random.default_rng(index).integers(shade, shade + 128, (80, 80, 3), dtype=np.uint8)
            files[f"train/{name}/{index:02}.png"] = encoded(Image.fromarray(values))
    found = load_dataset(str(write_folder(tmp_path / "set", files)), data_dir=data_dir, val_fraction=0.25)
    for part in (found.train, found.val):
        light = part.images.mean(axis=(1, 2, 3)) > 128
        assert (light == (part.labels == 1)).all()
