import subprocess
import sys
from pathlib import Path

import pytest
from image_files import two_classes, write_archive, write_folder

from trainables.data import DataError, check_name


@pytest.mark.parametrize("name", ["auto", "cifar10", "digits"])
def test_known_names_are_accepted_without_a_data_folder(name: str, data_dir: Path) -> None:
    check_name(name, data_dir)
    assert not data_dir.exists()


def test_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        DataError, match=r"'cifar-10' \(did you mean cifar10\?\); choose auto, cifar10, digits"
    ):
        check_name("cifar-10")


def test_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(DataError, match=r"called 'flowers'; choose"):
        check_name("flowers")


def test_empty_name_does_not_mean_the_working_folder() -> None:
    with pytest.raises(DataError, match="no data set is called ''"):
        check_name("")


@pytest.mark.parametrize("name", ["nowhere/flowers", "flowers.zip", "./flowers", "~/no-such-flowers"])
def test_missing_path_is_refused_as_a_path(name: str) -> None:
    with pytest.raises(DataError, match="no such file or folder: /"):
        check_name(name)


def test_folder_and_archive_are_accepted(tmp_path: Path) -> None:
    check_name(str(write_folder(tmp_path / "set", two_classes())))
    check_name(str(write_archive(tmp_path / "set.tar.gz", two_classes())))


def test_folder_without_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train/ folder; expected train/<class>/<image>"):
        check_name(str(tmp_path))


def test_folder_one_level_too_high_is_pointed_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "inner", two_classes())
    with pytest.raises(DataError, match=r"did you mean .*/inner\?"):
        check_name(str(tmp_path))


def test_folder_with_one_class_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/only/": b"", "train/.hidden/": b""})
    with pytest.raises(DataError, match="has 1 class folders; at least 2"):
        check_name(str(tmp_path))


def test_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"set.rar is no archive of a known kind; expected .zip"):
        check_name(str(tmp_path / "set.rar"))


def test_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file; name a folder"):
        check_name("digits", tmp_path / "file")


def test_check_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from trainables.data import DataError, check_name\n"
        "check_name('digits')\n"
        "try: check_name('digit')\n"
        "except DataError: pass\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'PIL', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
