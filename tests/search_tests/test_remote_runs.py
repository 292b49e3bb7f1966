"""Whole runs in an object store: no machine is needed but for the time that it works."""

from __future__ import annotations

import gc
import io
import json
import platform
import time
from pathlib import Path

import pytest
import s3_storage
from PIL import Image
from rich.console import Console

import search.evaluate
import search.export
import search.predict
import search.report
from search.copies import opened, run_folder, to_resume
from search.mirror import Mirror
from search.results import Results, RunFolder
from search.run import main, resume, run
from search.settings import Settings, UsageError
from trainables.remote import RemotePlace

pytestmark = pytest.mark.slow

QUICK = {
    "space": "benchmarks.small_space",
    "dataset": "digits",
    "max_epochs": 1,
    "device": "cpu",
    "seed": 3,
    "trials": 5,
    "asha": "none",
    "confirm_top": 2,
    "confirm_seeds": 1,
    "name": "first",
}


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Goes to another machine: one with a disk of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    go("head")
    return go


@pytest.fixture
def lose_head(follow, monkeypatch: pytest.MonkeyPatch):
    """Begins a search that is killed at its third trial; the store has seen nothing since training began."""

    def lose(storage: str) -> None:
        follow(lambda kind, number: "killed" if number == 2 else rising(kind, number))
        with monkeypatch.context() as patch:
            patch.setattr(Mirror, "_run", lambda self: None)
            patch.setattr(Mirror, "close", lambda self: None)
            with pytest.raises(SystemExit):
                begin(storage)

    return lose


def begin(storage: str, **options: object) -> tuple[Results, str]:
    console = Console(file=io.StringIO(), width=150)
    results = run(Settings(**{**QUICK, "storage": storage, **options}), console=console)
    return results, console.file.getvalue()


def go_on(address: str) -> tuple[Results, str]:
    console = Console(file=io.StringIO(), width=150)
    return resume(address, console=console), console.file.getvalue()


def rising(kind: str, number: int) -> float:
    return 0.5 + 0.01 * number


def checkpoints(address: str) -> list[str]:
    return sorted(name for name in RemotePlace(address).tree() if name.startswith("trials/"))


def test_everything_of_a_run_is_in_the_store_and_its_best_checkpoints(bucket, follow, on_machine):
    follow(rising)
    results, text = begin(f"{bucket}/runs")
    address = f"{bucket}/runs/first"
    assert f"everything is in  {address}" in text
    assert results.stopped == "finished"
    names = RemotePlace(address).tree()
    kept = {name for name in names if not name.startswith("trials/")}
    assert kept >= {
        "settings.json",
        "study.db",
        "best.md",
        "best.csv",
        "best.json",
        "trials.csv",
        "best/model.safetensors",
        "best/config.json",
        "refit/00000/model.safetensors",
    }
    assert not [name for name in kept if "/." in f"/{name}" or name == "driver.json" or "checkpoint" in name]
    assert checkpoints(address) == [f"trials/0000{number}/checkpoint-000.pt" for number in (2, 3, 4)]
    assert json.loads(RemotePlace(address).read("settings.json"))["settings"]["storage"] == f"{bucket}/runs"
    with pytest.raises(UsageError, match=f"a run called first is there already: {address}"):
        begin(f"{bucket}/runs")


def test_head_that_is_lost_is_not_needed(bucket, follow, on_machine, lose_head):
    address = f"{bucket}/runs/first"
    lose_head(f"{bucket}/runs")
    assert checkpoints(address) == ["trials/00000/checkpoint-000.pt", "trials/00001/checkpoint-000.pt"]
    RemotePlace(address).delete("driver.json")  # the machine that held it is gone for a minute
    on_machine("another")
    follow(rising)
    results, text = go_on(address)
    assert "what this machine has" not in text
    assert (results.stopped, results.trials["outcome"].tolist()) == ("finished", ["complete"] * 5)
    # numbers were given out again: what the later driver wrote is what counts
    assert checkpoints(address) == [f"trials/0000{number}/checkpoint-1000.pt" for number in (2, 3, 4)]


def test_head_that_is_still_there_goes_on_with_its_own_newer_record(
    bucket, follow, on_machine, lose_head, capsys
):
    address = f"{bucket}/runs/first"
    lose_head(f"{bucket}/runs")
    trained = []

    def script(kind: str, number: int) -> float:
        trained.append((kind, number))
        return rising(kind, number)

    follow(script)
    results, _ = go_on(address)
    assert f"going on with what this machine has of {address}" in capsys.readouterr().out
    assert ("trials", 0) not in trained
    assert results.trials["outcome"].tolist() == ["complete"] * 5


def test_machine_that_saved_it_earlier_takes_what_another_saved_later(bucket, follow, on_machine, capsys):
    address = f"{bucket}/runs/first"
    follow(lambda kind, number: "stop" if number == 2 else rising(kind, number))
    assert begin(f"{bucket}/runs", confirm=False)[0].stopped == "interrupted"
    on_machine("another")
    follow(lambda kind, number: "stop" if number == 4 else rising(kind, number))
    assert go_on(address)[0].stopped == "interrupted"
    on_machine("head")
    capsys.readouterr()
    own = to_resume(address)
    assert capsys.readouterr().out == ""
    assert Results(own).trials["outcome"].tolist().count("complete") == 4
    assert own.sitting == 1


def test_run_that_another_machine_drives_is_refused(bucket, follow, on_machine):
    address = f"{bucket}/runs/first"
    follow(rising)
    begin(f"{bucket}/runs")
    holder = {"host": "another", "pid": 7, "time": time.time()}
    RemotePlace(address).write("driver.json", json.dumps(holder).encode())
    with pytest.raises(UsageError, match=f"{address} is being searched by process 7 on another"):
        go_on(address)


def test_what_a_machine_has_of_a_run_that_is_in_the_store_no_more_is_in_nobodys_way(
    bucket, follow, on_machine
):
    left = run_folder(f"{bucket}/runs", "first")
    left.path.mkdir(parents=True)
    (left.path / "best.md").write_text("of another day")
    follow(rising)
    begin(f"{bucket}/runs", confirm=False)
    assert "of another day" not in (left.path / "best.md").read_text()


def test_search_ends_the_same_where_some_requests_fail_and_all_are_late(
    bucket, follow, on_machine, proxy, tmp_path
):
    follow(rising)
    calm, _ = begin(str(tmp_path / "calm"), trials=3, confirm=False)
    proxy.failing, proxy.seconds_late = 0.05, 0.2
    results, _ = begin(f"{bucket}/runs", trials=3, confirm=False)
    assert proxy.failed
    columns = ["trial", "outcome", "score", "epochs"]
    assert results.trials[columns].equals(calm.trials[columns])
    on_machine("another")
    with opened(f"{bucket}/runs/first") as folder:
        assert Results(folder).trials[columns].equals(calm.trials[columns])


@pytest.fixture
def finished(bucket, follow, on_machine) -> str:
    """Address of a finished run, seen from a machine that had no part in it."""
    follow(rising)
    begin(f"{bucket}/runs")
    on_machine("another")
    return f"{bucket}/runs/first"


def test_commands_take_an_address_and_put_back_what_they_write(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert search.export.main([finished]) == 0
    assert "# first: space benchmarks.small_space on digits" in capsys.readouterr().out
    for _ in range(2):
        assert search.evaluate.main([finished]) == 0
    out = capsys.readouterr().out
    assert f"written  {finished}/evaluation.json" in out
    assert "the test part was read for the 2nd time" in out
    assert search.report.main([finished]) == 0
    assert capsys.readouterr().out == f"{finished}/report.html\n"
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    for address in (finished, f"{finished}/best"):
        assert search.predict.main([address, str(tmp_path / "black.png")]) == 0
    assert "black.png" in capsys.readouterr().out
    store = RemotePlace(finished)
    assert json.loads(store.read("evaluation.json"))["read"]["count"] == 2
    page = store.read("report.html").decode()
    assert f"search.run --resume {finished}" in page
    assert str(tmp_path) not in page
    assert {"report.html", "evaluation.json", "confusion_matrix.png"} <= set(store.names())
    assert not list(tmp_path.glob("search-run-*"))


def test_results_are_opened_by_address_and_their_copy_goes_with_them(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = Results(finished)
    assert results.best["trial"] == 4
    assert results.best_model().class_names[3] == "3"
    copy = results.folder.path
    assert copy.exists()
    del results
    gc.collect()
    assert not copy.exists()


def test_new_search_starts_from_a_run_in_the_store(finished, follow, tmp_path):
    follow(rising)
    _, text = begin(str(tmp_path), start_from=finished, name="second", confirm=False, trials=2)
    assert f"the best 5 of {finished} are trained first" in text


def test_no_secret_of_the_environment_is_written_down(bucket, follow, on_machine, monkeypatch, tmp_path):
    monkeypatch.setenv("PGPASSWORD", "a-password-of-this-test")
    follow(rising)
    _, text = begin(f"{bucket}/runs")
    search.evaluate.main([f"{bucket}/runs/first"])
    search.report.main([f"{bucket}/runs/first"])
    store = RemotePlace(f"{bucket}/runs/first")
    contents = [text.encode(), *(store.read(name) for name in store.tree())]
    contents += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) > 20
    for secret in (s3_storage.SECRET, s3_storage.CREDENTIALS["AWS_ACCESS_KEY_ID"], "a-password-of-this-test"):
        assert not [content for content in contents if secret.encode() in content]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--storage", "s3://not-there/runs"], "there is no bucket not-there: make it"),
        (["--storage", "s4://bucket/runs"], "--storage must be a folder, or begin with one of s3://"),
        (["--storage", "s3://k:hidden@bucket/runs"], "--storage must hold no credentials"),
        (["--storage", "s3:/bucket"], "--storage must have two slashes"),
        (["--resume", "s3://not-there/runs/first"], "there is no run at s3://not-there/runs/first"),
        (["--resume", "s3://bucket"], "--resume must name a run in its bucket, s3://bucket/NAME"),
        (["--start-from", "s3://not-there/x"], "there is no run at s3://not-there/x"),
    ],
)
def test_storage_that_cannot_be_used_is_refused_in_one_line(
    s3_environment, capsys, on_machine, words, expected
):
    assert main([*([] if words[0] == "--resume" else ["--dataset=digits", "--device=cpu"]), *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "hidden" not in error
    assert error.count("\n") == 1


def test_run_folder_in_a_store_is_known_by_its_address(on_machine, tmp_path):
    folder = run_folder("s3://bucket/runs", "first")
    assert (folder.location, folder.storage) == ("s3://bucket/runs/first", "s3://bucket/runs")
    assert folder.shown("best.md") == "s3://bucket/runs/first/best.md"
    assert str(folder.trial(17)) == "s3://bucket/runs/first/trials/00017"
    assert tmp_path / "head" in folder.path.parents
    assert folder.path != run_folder("s3://other/runs", "first").path
    assert run_folder(Path("results"), "first") == RunFolder(Path("results/first"))
    assert platform.node() not in str(folder.path)
