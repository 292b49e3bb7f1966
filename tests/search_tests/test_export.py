import json

import pytest

from search.best_document import best_document
from search.database import sqlite_url
from search.export import main
from search.results import RunFolder
from search.study import StudyRecord
from search.table_formats import render


def exported(capsys, *words: str) -> str:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("form", ["md", "csv", "json", "yaml", "latex", "html"])
def test_every_format_is_what_the_tables_render(run_folder, capsys, form):
    from search.database import load_study

    text = exported(capsys, str(run_folder.path), "--format", form)
    assert text == render(best_document(load_study(run_folder.database), 10), form)
    assert "no network" in text


def test_markdown_is_the_default(run_folder, capsys):
    assert exported(capsys, str(run_folder.path)).startswith("# mine: space cnn on digits")


def test_top_limits_the_trials(run_folder, capsys):
    document = json.loads(exported(capsys, str(run_folder.path), "--format", "json", "--top", "1"))
    assert [trial["trial"] for trial in document["trials"]] == [1]


def test_unfinished_trials_are_shown_as_such(run_folder, capsys):
    document = json.loads(exported(capsys, str(run_folder.path), "--format=json"))
    assert [(t["trial"], t["outcome"]) for t in document["trials"]] == [
        (1, "complete"),
        (0, "pruned"),
        (2, "unfinished"),
    ]


def test_output_is_written_to_a_file(run_folder, capsys, tmp_path):
    file = tmp_path / "table.html"
    assert exported(capsys, str(run_folder.path), "--format", "html", "--output", str(file)) == ""
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_study_that_is_still_written_is_exported(new_trial, new_database, capsys, tmp_path):
    folder = RunFolder(tmp_path)
    new_database(folder.database)
    record = StudyRecord("mine", "maximize", sqlite_url(folder.database))
    new_trial(record, {"lr": 0.5}, {1: 0.25})
    record.flush(force=True)
    (first,) = json.loads(exported(capsys, str(tmp_path), "--format", "json"))["trials"]
    record.report(0, 2, 0.5)
    record.flush(force=True)
    (second,) = json.loads(exported(capsys, str(tmp_path), "--format", "json"))["trials"]
    record.close()
    assert (first["score"], second["score"]) == (0.25, 0.5)


def refused(capsys, *words: str) -> str:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_run_that_does_not_exist_is_refused(capsys, tmp_path):
    error = refused(capsys, str(tmp_path / "none"))
    assert "study.db does not exist: give the folder of a run" in error
    assert not (tmp_path / "none").exists()


def test_impossible_top_is_refused(run_folder, capsys):
    assert "--top must be at least 1, but is 0" in refused(capsys, str(run_folder.path), "--top", "0")


def test_output_that_cannot_be_written_is_refused(run_folder, capsys, tmp_path):
    error = refused(capsys, str(run_folder.path), "--output", str(tmp_path / "none" / "table.md"))
    assert "table.md cannot be written: No such file" in error


@pytest.mark.parametrize("words", [[], ["run", "--format", "pdf"], ["run", "--tops", "3"]])
def test_wrong_usage_ends_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert (words or ["RUN"])[-1 if len(words) != 3 or "pdf" in words else 1] in capsys.readouterr().err


def test_help_names_the_run_and_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("results/NAME", "--format", "--top", "--output", "(default: md)"))
