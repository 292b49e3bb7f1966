import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import two_classes, write_archive, write_folder

from trainables.data import DataError, load_dataset
from trainables.data.cache import Manifest, store, stored

MANIFEST = Manifest(class_names=("a", "b"), image_size=1, parts=("train",))


def build(folder: Path) -> Manifest:
    np.save(folder / "train_images.npy", np.zeros((2, 1, 1, 3), dtype=np.uint8))
    np.save(folder / "train_labels.npy", np.arange(2))
    return MANIFEST


def test_what_is_stored_is_found_again(data_dir: Path) -> None:
    assert stored(data_dir, "name") is None
    store(data_dir, "name", build)
    found = stored(data_dir, "name")
    assert found is not None
    assert found.manifest == MANIFEST
    part = found.part("train")
    assert part is not None
    assert part.images.shape == (2, 1, 1, 3)
    assert isinstance(part.images, np.memmap)
    assert found.part("test") is None


def test_failed_build_leaves_nothing(data_dir: Path) -> None:
    def fail(folder: Path) -> Manifest:
        build(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(data_dir, "name", fail)
    assert list((data_dir / "decoded").iterdir()) == []


def test_of_two_that_build_the_same_the_first_is_kept(data_dir: Path) -> None:
    def slower(folder: Path) -> Manifest:
        store(data_dir, "name", build)
        (folder / "late").touch()
        return build(folder)

    late = store(data_dir, "name", slower)
    assert late.part("train") is not None
    assert not (late.folder / "late").exists()
    assert [path.name for path in (data_dir / "decoded").iterdir()] == ["name"]


def test_what_a_killed_process_left_is_removed_after_a_day(data_dir: Path) -> None:
    old, young = (data_dir / "decoded" / f"partial-{name}" for name in ("old", "young"))
    for folder in (old, young):
        (folder / "work").mkdir(parents=True)
    day_before_yesterday = time.time() - 2 * 24 * 3600
    os.utime(old, (day_before_yesterday, day_before_yesterday))
    store(data_dir, "name", build)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("damage", ["{", "{}", '{"class_names": ["a"], "parts": []}', "[]"])
def test_damaged_manifest_is_refused_with_the_way_out(damage: str, data_dir: Path) -> None:
    folder = store(data_dir, "name", build).folder
    (folder / "manifest.json").write_text(damage)
    with pytest.raises(DataError, match=r"are damaged .*; delete that folder"):
        stored(data_dir, "name")


def test_truncated_array_is_refused_with_the_way_out(tmp_path: Path, data_dir: Path) -> None:
    root = str(write_folder(tmp_path / "set", two_classes()))
    load_dataset(root, data_dir=data_dir)
    (array,) = data_dir.glob("decoded/*/train_images.npy")
    os.truncate(array, array.stat().st_size - 10)
    with pytest.raises(DataError, match=r"are damaged .*; delete that folder"):
        load_dataset(root, data_dir=data_dir)


def test_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    archive = write_archive(tmp_path / "set.zip", two_classes())
    for root in (write_folder(tmp_path / "set", two_classes()), archive):
        with pytest.raises(DataError, match=r"written.*; choose another data folder"):
            load_dataset(str(root), data_dir=tmp_path / "file" / "data")


def test_processes_that_decode_at_the_same_time_agree(tmp_path: Path, data_dir: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", two_classes(150))
    code = (
        "import sys; from pathlib import Path; from trainables.data import load_dataset\n"
        "print(load_dataset(sys.argv[1], data_dir=Path(sys.argv[2])).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(archive), str(data_dir)]
    checkout = Path(__file__).parents[3]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=checkout) for _ in range(2)]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert printed == {load_dataset(str(archive), data_dir=data_dir).fingerprint.encode() + b"\n"}
    assert len(list(data_dir.glob("decoded/*-v*"))) == 1
    assert not list(data_dir.glob("decoded/partial-*"))
