import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from image_files import encoded, noise, png, two_classes, write_archive, write_folder

from trainables.data import DataError, load_dataset, load_test

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def refusal(path: Path, data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(str(path), data_dir=data_dir)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert not list(data_dir.glob("decoded/*-v*"))
    return message


def tar_with(path: Path, *members: tarfile.TarInfo) -> Path:
    write_archive(path, two_classes())
    with tarfile.open(path, "a") as tar:
        for member in members:
            tar.addfile(member)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("top", ["", "./", "flowers/"])
def test_archive_holds_the_same_as_its_folder(ending: str, top: str, tmp_path: Path, data_dir: Path) -> None:
    files = two_classes(6, ("train", "val", "test"))
    packed = {top + name: content for name, content in reversed(files.items())}
    archive = write_archive(tmp_path / f"set{ending}", packed | {f"{top}README.md": b"text"})
    folder = write_folder(tmp_path / "set", files)
    from_archive = load_dataset(str(archive), data_dir=data_dir)
    assert from_archive.name == str(archive)
    assert from_archive.fingerprint == load_dataset(str(folder), data_dir=data_dir).fingerprint
    tests = [load_test(str(path), data_dir=data_dir) for path in (archive, folder)]
    assert tests[0] is not None
    assert tests[1] is not None
    assert tests[0].images.tobytes() == tests[1].images.tobytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_archive_cut_anywhere_is_refused(ending: str, tmp_path: Path, data_dir: Path) -> None:
    whole = write_archive(tmp_path / f"set{ending}", two_classes(8)).read_bytes()
    lengths = [*range(100, len(whole), len(whole) // 9), len(whole) - 3]
    if ending == ".tar":
        # between two members, in the middle of one, and before the two empty blocks that end it
        end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
        lengths = [512, 1024, 5 * 1024, 5 * 1024 + 512, 5 * 1024 + 600, 5 * 1024 + 100, end]
    for length in lengths:
        (tmp_path / f"cut{ending}").write_bytes(whole[:length])
        assert "is damaged or no archive" in refusal(tmp_path / f"cut{ending}", data_dir)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_archive_is_refused(ending: str, tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / f"set{ending}").write_bytes(b"<html>not found</html>" * 99)
    assert "is damaged or no archive" in refusal(tmp_path / f"set{ending}", data_dir)
    (tmp_path / f"set{ending}").write_bytes(b"")
    assert "is damaged or no archive" in refusal(tmp_path / f"set{ending}", data_dir)


def test_changed_byte_in_a_zip_file_is_found(tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / "set.zip", two_classes())
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in refusal(path, data_dir)


def test_broken_header_in_the_middle_of_a_tar_file_is_not_its_end(tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / "set.tar", two_classes())
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[6].offset
    content[offset + 148 : offset + 156] = b"99999999"  # its check sum
    path.write_bytes(content)
    assert "it ends early" in refusal(path, data_dir)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.xz", ".tar.bz2"])
def test_check_sum_at_the_end_is_read_wherever_the_last_member_ends(
    ending: str, tmp_path: Path, data_dir: Path
) -> None:
    files = two_classes()
    used = sum(512 + -(-len(content) // 512) * 512 for content in files.values())
    # the first mebibyte, which is read at once, ends just after the first empty block behind the images
    last = png()
    files["train/red/9.png"] = last + bytes(2**20 - 1024 - used - 512 - len(last))
    path = write_archive(tmp_path / f"set{ending}", files)
    path.write_bytes(path.read_bytes()[:-6])
    assert "is damaged or no archive" in refusal(path, data_dir)


def test_password_is_refused(tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / "set.zip", two_classes())
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + 8] |= 1  # the flag of an encrypted member, which Python cannot write
    path.write_bytes(content)
    assert "is protected by a password" in refusal(path, data_dir)


@pytest.mark.parametrize("name", ["/train/red/9.png", "../train/red/9.png", "train/red/../../../9.png"])
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_path_out_of_the_archive_is_refused(name: str, ending: str, tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / f"set{ending}", two_classes() | {name: png()})
    assert f"{name} points outside of the archive" in refusal(path, data_dir)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_link_among_the_images_is_refused(kind: bytes, tmp_path: Path, data_dir: Path) -> None:
    member = tarfile.TarInfo("train/red/9.png")
    member.type, member.linkname = kind, "/etc/passwd"
    assert "train/red/9.png is a link or a special file" in refusal(
        tar_with(tmp_path / "s.tar", member), data_dir
    )


def test_link_in_a_zip_file_is_refused(tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / "set.zip", two_classes())
    link = zipfile.ZipInfo("train/red/9.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "is a link" in refusal(path, data_dir)


def test_link_beside_the_data_is_ignored(tmp_path: Path, data_dir: Path) -> None:
    member = tarfile.TarInfo("latest")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    assert len(load_dataset(str(tar_with(tmp_path / "s.tar", member)), data_dir=data_dir).train) == 6


def test_member_of_absurd_size_is_refused_before_it_is_unpacked(tmp_path: Path, data_dir: Path) -> None:
    member = tarfile.TarInfo("train/red/huge.png")
    member.size = 2**40
    with lzma.open(tmp_path / "set.tar.xz", "w") as file:
        file.write(member.tobuf())
    assert "huge.png has 1048576 MiB, more than 256" in refusal(tmp_path / "set.tar.xz", data_dir)
    path = write_archive(tmp_path / "set.zip", two_classes())
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 2**31)
    path.write_bytes(content)
    assert "has 2048 MiB, more than 256" in refusal(path, data_dir)


@pytest.mark.parametrize("size", [2**40, 2**70, -1, -(2**40)])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.REGTYPE])
def test_header_of_absurd_size_is_not_believed(
    kind: bytes, size: int, tmp_path: Path, data_dir: Path
) -> None:
    member = tarfile.TarInfo("train/red/0.png")
    member.type, member.size = kind, size
    content = member.tobuf(tarfile.GNU_FORMAT) + png().ljust(4096, b"\0")
    (tmp_path / "set.tar").write_bytes(content)
    refused = refusal(tmp_path / "set.tar", data_dir)
    if kind == tarfile.REGTYPE:
        assert "has a size of" in refused or "more than 256" in refused
    else:
        assert "is damaged or no archive" in refused


@pytest.mark.parametrize("harm", ["endless", "deep", "no number"])
def test_headers_made_to_do_harm_are_refused(harm: str, tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "set.tar"
    if harm == "no number":
        member = tarfile.TarInfo("train/red/0.png")
        member.pax_headers = {"GNU.sparse.map": "abc"}
        content = member.tobuf(tarfile.PAX_FORMAT)
    elif harm == "deep":
        name = tarfile.TarInfo("name")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1
        content = (name.tobuf() + b"x".ljust(512, b"\0")) * 2000
    else:  # back to where it begins, again and again
        back = tarfile.TarInfo("train/red/1.png")
        back.size = -512
        content = tarfile.TarInfo("train/red/0.png").tobuf() + back.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(content + bytes(10240))
    refused = refusal(path, data_dir)
    assert "is damaged or no archive" in refused or "has a size of -512 bytes" in refused


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_file_that_unpacks_to_any_size_is_refused(method: int, tmp_path: Path, data_dir: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w", method) as archive:
        for name, content in two_classes().items():
            archive.writestr(name, content)
    assert f"is packed by method {method}" in refusal(tmp_path / "set.zip", data_dir)


def test_zip_file_that_holds_more_than_it_says_is_read_no_further(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (two_classes() | {"train/red/0.png": bytes(2**28)}).items():
            archive.writestr(name, content)
    content = bytearray(path.read_bytes())
    start = -1
    while (start := content.find(b"PK\x01\x02", start + 1)) >= 0:
        if struct.unpack_from("<I", content, start + 24)[0] == 2**28:
            struct.pack_into("<I", content, start + 24, 1000)
    path.write_bytes(content)
    tracemalloc.start()
    refusal(path, data_dir)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**26


def test_class_that_is_not_named_in_utf8_is_refused(tmp_path: Path, data_dir: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        for name, content in two_classes().items():
            member = tarfile.TarInfo(name.replace("red", "caf\xe9"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert r"train/'caf\udce9' is not UTF-8; rename it" in refusal(tmp_path / "set.tar", data_dir)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_layout_of_an_archive_is_checked(ending: str, tmp_path: Path, data_dir: Path) -> None:
    for extra, message in (
        ({"train/blue/": b""}, "train/blue holds no images"),
        ({"test/blue/0.png": png()}, "test/blue is no class of train/"),
        ({"other/train/red/0.png": png()}, "may be meant; keep one data set"),
        ({"train/red/bad.png": b"x"}, "1 file is not an image that can be read: train/red/bad.png"),
    ):
        assert message in refusal(write_archive(tmp_path / f"set{ending}", two_classes() | extra), data_dir)
    one = {name: content for name, content in two_classes().items() if "red" in name}
    assert "only one class, train/red" in refusal(write_archive(tmp_path / f"one{ending}", one), data_dir)
    assert "no train/ folder" in refusal(
        write_archive(tmp_path / f"no{ending}", {"a/b.png": png()}), data_dir
    )


def test_file_that_is_in_an_archive_twice_is_refused(tmp_path: Path, data_dir: Path) -> None:
    path = write_archive(tmp_path / "set.tar", two_classes())
    content = png()
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("train/red/0.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert "train/red/0.png is there twice" in refusal(path, data_dir)


def test_backslashes_of_windows_are_understood(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in two_classes().items():
            member = zipfile.ZipInfo()
            member.filename = name.replace("/", "\\")
            archive.writestr(member, content)
    assert load_dataset(str(path), data_dir=data_dir).class_names == ("green", "red")


def test_archive_is_hashed_again_only_when_it_changed(tmp_path: Path, data_dir: Path, monkeypatch) -> None:
    path = write_archive(tmp_path / "set.zip", two_classes())
    before = load_dataset(str(path), data_dir=data_dir).fingerprint
    moved = path.rename(tmp_path / "moved.zip")
    assert load_dataset(str(moved), data_dir=data_dir).fingerprint == before
    assert len(list(data_dir.glob("decoded/*-v*"))) == 1, "the same content is decoded once"
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)
        assert load_dataset(str(moved), data_dir=data_dir).fingerprint == before
    write_archive(moved, two_classes(5))
    assert load_dataset(str(moved), data_dir=data_dir).fingerprint != before


def test_sizes_that_differ_late_in_an_archive_start_it_again(tmp_path: Path, data_dir: Path) -> None:
    files = two_classes(200) | {"train/red/last.png": encoded(noise(0, (70, 90)))}
    found = load_dataset(str(write_archive(tmp_path / "set.tar.gz", files)), data_dir=data_dir)
    assert found.train.images.shape[1:] == (64, 64, 3)
    assert len(found.train) + len(found.val) == 401


@pytest.mark.slow
def test_cifar10_as_image_files(cifar10_images: Path, data_dir: Path) -> None:
    found = load_dataset(str(cifar10_images), data_dir=data_dir)
    assert found.train.images.shape == (45_000, 32, 32, 3)
    assert found.val.images.shape == (5_000, 32, 32, 3)
    assert found.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.002)
    test = load_test(found.name, data_dir=data_dir)
    assert test is not None
    assert test.images.shape == (10_000, 32, 32, 3)
    assert load_dataset(str(cifar10_images), data_dir=data_dir).fingerprint == found.fingerprint
