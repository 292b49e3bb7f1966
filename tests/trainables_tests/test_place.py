"""Folders on a disk and in an object store: whole files, and what is said where they cannot be used."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainables import place, remote
from trainables.place import LocalPlace, check_place, location, place_of
from trainables.remote import RemotePlace
from trainables.storage import StorageError


@pytest.fixture(params=["disk", "object store"])
def somewhere(request, tmp_path):
    if request.param == "disk":
        return LocalPlace(tmp_path / "runs" / "mine")
    return RemotePlace(f"{request.getfixturevalue('bucket')}/runs/mine")


def put(folder, name: str, content: bytes) -> None:
    with folder.new_file(name) as file:
        file.write(content)


def test_files_come_back_whole_and_go(somewhere):
    assert somewhere.names() == []
    for content in (b"", b"first", b"second " * 3_000_000):  # the last one takes an upload in parts
        put(somewhere, "one.bin", content)
        with somewhere.open("one.bin") as file:
            assert file.read() == content
    put(somewhere, "two.bin", b"2")
    assert sorted(somewhere.names()) == ["one.bin", "two.bin"]
    for _ in range(2):  # what is not there is deleted too
        somewhere.delete("one.bin")
    assert somewhere.names() == ["two.bin"]
    with pytest.raises(FileNotFoundError):
        somewhere.open("one.bin")


def test_file_whose_writer_fails_is_as_it_was(somewhere):
    put(somewhere, "one.bin", b"before")

    def fail() -> None:
        with somewhere.new_file("one.bin") as file:
            file.write(b"half of it")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert somewhere.names() == ["one.bin"]
    assert somewhere.open("one.bin").read() == b"before"


def test_remote_folder_is_found_from_another_process_and_by_its_parts(bucket):
    folder = RemotePlace(bucket) / "runs" / "first"
    assert (str(folder), folder.name, folder.parent) == (
        f"{bucket}/runs/first",
        "first",
        RemotePlace(f"{bucket}/runs"),
    )
    put(folder, "settings.json", b"{}")
    put(folder / "best" / "more", "config.json", b"{}")
    again = pickle.loads(pickle.dumps(folder))
    assert (sorted(again.tree()), again.folders()) == (["best/more/config.json", "settings.json"], ["best"])
    assert again.names() == ["settings.json"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("results", Path("results")),
        ("~/x", Path("~/x")),
        ("file:///data/runs", Path("/data/runs")),
        ("s3://bucket/runs/", "s3://bucket/runs"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/runs", "gs://bucket/runs"),
    ],
)
def test_location_is_a_path_or_an_address(text, expected):
    assert location(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s4://bucket/runs", "must be a folder, or begin with one of s3://, gs://"),
        ("abfs://container/runs", "must be a folder, or begin with one of s3://, gs://"),
        ("http://bucket/runs", "must be a folder, or begin with one of s3://, gs://"),
        ("file://shared/runs", "must have three slashes before a folder, file:///"),
        ("s3:/bucket/runs", "must have two slashes, s3://"),
        ("s3:///runs", "must name a bucket"),
        ("s3://key:secret@bucket/runs", "must hold no credentials"),
        ("s3://key:se/secret@bucket/runs", "must hold no credentials"),
        ("s3://key:se#secret@bucket/runs", "must hold no credentials"),
        ("s3://key:hidden@bucket/runs?secret_key=secret", "must hold no credentials"),
        ("s3://bucket/runs?secret_key=secret", "must have no options"),
    ],
)
def test_address_that_can_never_work_is_refused_without_its_secrets(text, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        location(text)
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


def test_place_that_can_be_used_is_left_as_it_was(bucket, tmp_path):
    check_place(f"{bucket}/runs")
    assert RemotePlace(bucket).tree() == []
    check_place(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert place_of(f"{bucket}/runs") == RemotePlace(f"{bucket}/runs")


def refusal(folder: str | Path) -> str:
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        check_place(folder)
    assert time.monotonic() - began < 120
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bucket_that_is_not_there_is_named(bucket):
    assert "there is no bucket not-there: make it, or name another" in refusal("s3://not-there/runs")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((403, "AccessDenied"), "is denied: the credentials need s3:GetObject, s3:PutObject"),
        ((403, "InvalidAccessKeyId"), "the key in AWS_ACCESS_KEY_ID is not known there"),
        ((403, "SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID"),
        ((400, "ExpiredToken"), "the token in AWS_SESSION_TOKEN has expired"),
        ((301, "PermanentRedirect"), "is in another region: set AWS_REGION"),
        ((404, "nothing"), "what answers is no object store"),
    ],
)
def test_refusal_of_the_store_is_told_at_once_with_bucket_and_way_out(bucket, proxy, answer, expected):
    proxy.answer = answer
    said = refusal(f"{bucket}/runs")
    assert expected in said
    assert bucket.removeprefix("s3://") in said
    assert proxy.requests == 1


def test_missing_credentials_are_told(bucket, proxy, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    proxy.answer_without_key = (403, "AccessDenied")
    assert "there are no credentials in the environment: set AWS_ACCESS_KEY_ID" in refusal(f"{bucket}/runs")


def test_store_that_does_not_answer_is_told_in_time(bucket, monkeypatch):
    monkeypatch.setattr(place, "CHECK_PATIENCE", 2.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "it cannot be reached (Failed to connect to 127.0.0.1" in refusal(f"{bucket}/runs")


def test_store_that_fails_for_a_while_is_waited_for(bucket, proxy, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.05)
    folder = RemotePlace(f"{bucket}/runs")
    proxy.down = True
    threading.Timer(3.0, lambda: setattr(proxy, "down", False)).start()
    put(folder, "one.bin", b"1")
    assert folder.open("one.bin").read() == b"1"
    assert proxy.requests > 3


def test_patience_ends_with_a_line(bucket, proxy):
    proxy.down = True
    folder = replace(RemotePlace(f"{bucket}/runs"), patience=1.0)
    with pytest.raises(StorageError, match=r"s3://.*/runs/one\.bin cannot be written: it cannot be reached"):
        put(folder, "one.bin", b"1")


@pytest.mark.slow
def test_nothing_is_lost_where_some_requests_fail_and_all_are_late(bucket, proxy, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.05)
    proxy.failing, proxy.seconds_late = 0.05, 0.2
    folder = RemotePlace(f"{bucket}/runs")
    for number in range(15):
        put(folder, f"{number}.bin", str(number).encode() * 1000)
    put(folder, "large.bin", b"large" * 3_000_000)
    assert len(folder.names()) == 16
    for number in range(15):
        assert folder.open(f"{number}.bin").read() == str(number).encode() * 1000
    assert folder.open("large.bin").read() == b"large" * 3_000_000
    assert proxy.failed > 1
