import ast
import hashlib
import importlib.util
import io
import pickle
import socket
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.data import DataError, load_dataset, load_test
from trainables.data.cifar10 import TORONTO, Source, _load
from trainables.data.download import DownloadError, download

NAMES = ["airplane", "automobile"]


def batch(seed: int, count: int = 20) -> bytes:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    # as the University of Toronto's Python 2 did, protocol 2
    return pickle.dumps({"data": data, "labels": [index % 2 for index in range(count)]}, protocol=2)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


FILES = {
    "data_batch_1": batch(1),
    "data_batch_2": batch(2),
    "test_batch": batch(3),
    "batches.meta": pickle.dumps({"label_names": NAMES}, protocol=2),
}


@pytest.fixture
def source(server, tmp_path: Path) -> Source:
    """A tiny CIFAR-10 on a local server."""
    path = tmp_path / "served" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    sums = {name: (name, md5(content)) for name, content in FILES.items()}
    return Source(
        url=f"http://127.0.0.1:{server.server_port}/{path.name}",
        md5=md5(path.read_bytes()),
        train=(sums["data_batch_1"], sums["data_batch_2"]),
        test=(sums["test_batch"],),
        names=sums["batches.meta"],
    )


@pytest.fixture
def unreachable(source: Source) -> Source:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return replace(source, url=f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")


def test_facts_are_those_of_torchvision() -> None:
    # its source is read, because importing it takes many seconds
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse((Path(package.origin).parent / "datasets/cifar.py").read_text())
    theirs = {}
    for statement in next(node for node in tree.body if getattr(node, "name", "") == "CIFAR10").body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            theirs[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert (TORONTO.url, TORONTO.archive) == (theirs["url"], theirs["filename"])
    assert TORONTO.md5 == theirs["tgz_md5"]
    assert [list(item) for item in TORONTO.train] == theirs["train_list"]
    assert [list(item) for item in TORONTO.test] == theirs["test_list"]
    assert TORONTO.names == (theirs["meta"]["filename"], theirs["meta"]["md5"])


def test_downloaded_once_then_read_from_the_disk(source: Source, server, data_dir: Path) -> None:
    found = load_dataset("cifar10", data_dir=data_dir, cifar10_source=source)
    assert (found.name, found.note, found.class_names) == ("cifar10", "", tuple(NAMES))
    assert (len(found.train), len(found.val)) == (36, 4)
    again = load_dataset("cifar10", data_dir=data_dir, cifar10_source=source)
    assert again.fingerprint == found.fingerprint
    test = load_test("cifar10", data_dir=data_dir, cifar10_source=source)
    assert test is not None
    assert len(test) == 20
    assert server.requests == ["/cifar-10-python.tar.gz"]
    assert sorted(path.name for path in data_dir.iterdir()) == ["cifar-10-python.tar.gz", "decoded"]


def test_pixels_are_height_width_channels(source: Source, data_dir: Path) -> None:
    test = load_test("cifar10", data_dir=data_dir, cifar10_source=source)
    assert test is not None
    rows = np.random.default_rng(3).integers(0, 256, (20, 3072), dtype=np.uint8)
    assert test.images[7, 3, 5, 1] == rows[7, 1024 + 3 * 32 + 5]
    assert test.images.dtype == np.uint8
    assert test.images.flags.c_contiguous
    assert test.labels.tolist() == [0, 1] * 10


def test_other_size_is_resized(source: Source, data_dir: Path) -> None:
    found = load_dataset("cifar10", data_dir=data_dir, image_size=16, cifar10_source=source)
    assert found.train.images.shape == (36, 16, 16, 3)


def test_archive_placed_by_hand_needs_no_network(
    source: Source, unreachable: Source, tmp_path: Path, data_dir: Path
) -> None:
    data_dir.mkdir()
    (data_dir / source.archive).write_bytes((tmp_path / "served" / source.archive).read_bytes())
    assert load_dataset("auto", data_dir=data_dir, cifar10_source=unreachable).name == "cifar10"


def test_folder_that_torchvision_unpacked_needs_no_network(unreachable: Source, data_dir: Path) -> None:
    (data_dir / "cifar-10-batches-py").mkdir(parents=True)
    for name, content in FILES.items():
        (data_dir / "cifar-10-batches-py" / name).write_bytes(content)
    assert load_dataset("auto", data_dir=data_dir, cifar10_source=unreachable).name == "cifar10"


def test_damaged_batch_is_refused_by_name(unreachable: Source, data_dir: Path) -> None:
    (data_dir / "cifar-10-batches-py").mkdir(parents=True)
    for name, content in FILES.items():
        (data_dir / "cifar-10-batches-py" / name).write_bytes(
            content[:-1] if name == "test_batch" else content
        )
    with pytest.raises(DataError, match=r"test_batch of .*cifar-10-batches-py has MD5"):
        load_dataset("auto", data_dir=data_dir, cifar10_source=unreachable)


def test_damaged_archive_on_disk_is_refused_even_for_auto(source: Source, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / source.archive).write_bytes(b"half")
    with pytest.raises(DataError, match=r"has MD5 .* delete it to download it again"):
        load_dataset("auto", data_dir=data_dir, cifar10_source=source)


def test_wrong_checksum_is_refused_and_nothing_is_kept(source: Source, data_dir: Path) -> None:
    with pytest.raises(DownloadError, match=r"has MD5 [0-9a-f]{32}, expected 0{32}; deleted it"):
        load_dataset("cifar10", data_dir=data_dir, cifar10_source=replace(source, md5="0" * 32))
    assert list(data_dir.iterdir()) == []


def test_without_network_the_error_names_file_and_place(unreachable: Source, data_dir: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10", data_dir=data_dir, cifar10_source=unreachable)
    assert "could not be downloaded (Connection refused)" in str(caught.value)
    assert f"place cifar-10-python.tar.gz in {data_dir}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_auto_falls_back_to_digits_and_says_so(unreachable: Source, data_dir: Path) -> None:
    found = load_dataset("auto", data_dir=data_dir, cifar10_source=unreachable)
    assert found.name == "digits"
    assert found.note.startswith("digits, not CIFAR-10: http://127.0.0.1:")
    assert "could not be downloaded (Connection refused)" in found.note
    assert "\n" not in found.note


def test_auto_is_cifar10_where_it_can_be_had(source: Source, data_dir: Path) -> None:
    found = load_dataset("auto", data_dir=data_dir, cifar10_source=source)
    assert (found.name, found.note) == ("cifar10", "")


def test_auto_names_no_test_part(data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"Dataset\.name"):
        load_test("auto", data_dir=data_dir)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.tar.gz", "HTTP 404"), ("cut/cifar.tar.gz", "ended after 4 of 1000000 bytes")],
)
def test_failed_download_leaves_nothing(path: str, reason: str, server, data_dir: Path) -> None:
    with pytest.raises(DownloadError, match=reason):
        download(f"http://127.0.0.1:{server.server_port}/{path}", "0" * 32, data_dir / "file", _no_progress)
    assert list(data_dir.iterdir()) == []


def test_silent_server_is_given_up_on_after_a_moment(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/file"
        start = time.perf_counter()
        with pytest.raises(DownloadError, match=r"no answer within 0.3 seconds"):
            download(url, "0" * 32, data_dir / "file", _no_progress, connect_seconds=0.3)
        assert time.perf_counter() - start < 20  # not the minutes that a system waits by default


def test_only_http_is_fetched(data_dir: Path) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        download("file:///etc/passwd", "0" * 32, data_dir / "file", _no_progress)


class _Harmful:
    def __reduce__(self):
        return print, ("a pickle ran a function",)


def test_pickle_that_calls_a_function_is_refused(capsys) -> None:
    with pytest.raises(DataError, match=r"asks for .*print"):
        _load(pickle.dumps({"data": _Harmful()}, protocol=2))
    assert capsys.readouterr().out == ""


def test_pickle_by_python_2_with_the_old_name_of_numpy_is_read_without_a_warning(recwarn) -> None:
    content = FILES["data_batch_1"].replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert _load(content)["data"].shape == (20, 3072)
    assert not recwarn.list


def _no_progress(description: str, total: int):
    from trainables.data.dataset import silent

    return silent(description, total)
