import csv
import io
import json
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from test_best_document import CONFIRMED

from search.best_document import best_document, best_row
from search.results import RunFolder, write_tables
from search.table_formats import render
from search.tables import trials_table


def test_parameter_called_like_a_fact_does_not_replace_it(record, new_trial):
    new_trial(record, {"epochs": 77, "error": "square", "score": 5.0}, {1: 0.5, 3: 0.75}, "pruned")
    row = trials_table(record.study).iloc[0]
    assert (row["epochs"], row["score"], row["error"]) == (3, 0.75, "")
    assert (row["parameter.epochs"], row["parameter.score"], row["parameter.error"]) == (77, 5.0, "square")
    (best,) = best_document(record.study, 1)["trials"]
    assert (best["epochs"], best["config"]["epochs"]) == (3, 77)
    (exported,) = csv.DictReader(io.StringIO(render(best_document(record.study, 1), "csv")))
    assert (exported["epochs"], exported["parameter.epochs"]) == ("3", "77")


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_parse_back(various, form, load):
    text = render(best_document(various, 2), form)
    document = load(text)
    assert document == best_document(various, 2)
    assert document["note"] == various.user_attrs["note"]
    assert (document["run"], document["dataset"], document["direction"]) == ("mine", "digits", "maximize")
    assert text.endswith("\n")


def test_csv_parses_back_and_names_the_data_in_each_row(various):
    rows = list(csv.DictReader(io.StringIO(render(best_document(various, 2), "csv"))))
    assert [row["trial"] for row in rows] == ["2", "1", "0", "6"]
    assert {(row["dataset"], row["note"]) for row in rows} == {("digits", various.user_attrs["note"])}
    assert (rows[0]["score"], rows[0]["lr"], rows[0]["depth"], rows[0]["width"]) == ("0.8", "1.0", "2", "")
    assert (rows[2]["parameters"], rows[2]["width"]) == ("10", "8")


def cells(text: str) -> list[list[str]]:
    import re

    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[cell.strip().replace(r"\|", "|") for cell in line] for line in split]


def test_markdown_parses_back(various):
    text = render(best_document(various, 1), "md")
    assert "**Note:** " + various.user_attrs["note"] in text
    assert text.splitlines()[0] == "# mine: space cnn on digits, validation accuracy"
    head, *rows = cells(text)
    assert rows[0] == ["1", "2", "", "complete", "80.00 %", "3", "-", "62"]
    assert dict(zip(head, rows[1], strict=True))["parameters"] == "10"
    assert rows[2][:5] == ["-", "6", "deep", "failed", "-"]
    assert rows[-2:] == [["lr", "1"], ["depth", "2"]]
    assert "## Best configuration: trial 2" in text


def test_markdown_keeps_a_bar_inside_its_cell(record, new_trial):
    new_trial(record, {"kind": "a|b"}, {1: 0.5}, "pruned", "one|two")
    rows = cells(render(best_document(record.study, 1), "md"))
    assert rows[1][2] == "one|two"
    assert rows[-1] == ["kind", "a|b"]


def test_markdown_leaderboard_fits_100_columns(record, new_trial):
    params = {"network_parameters": 1_234_567_890, "seconds": 1234567.0}
    new_trial(record, {"lr": 0.5}, {243: 0.12345}, "complete", "a" * 60, **params)
    for number in range(12):
        new_trial(record, {"lr": 0.5}, {1: number / 100}, "infeasible", **params)
    text = render(best_document(record.study, 10), "md")
    table = text[: text.index("##")]
    assert max(len(line) for line in table.splitlines() if line.startswith("|")) <= 100


def test_latex_parses_back(various):
    text = render(best_document(various, 1), "latex")
    assert r"no network \& 50 \% of \_nothing\_" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line.removesuffix(r"\\").split(" & ") for line in body.splitlines()[1:]]
    assert [row[1].strip() for row in rows] == ["2", "0", "6"]
    assert rows[0][4] == r"80.00 \%"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_html_escapes_names_and_cuts_nothing(record, new_trial):
    evil, long = "<script>alert(1)</script>", "x" * 80
    record.set_attributes({"run": evil, "dataset": evil, "note": f"50 % {evil}"})
    new_trial(record, {evil: 0.5, "kind": evil, "long": long}, {1: 0.5}, "pruned", "<b>&")
    page = Page(render(best_document(record.study, 1), "html"))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("table") == 2
    assert {evil, long, "<b>&"} <= set(page.texts)
    assert any("50 %" in text for text in page.texts)


def test_run_folder_gets_the_tables(various, tmp_path):
    results = SimpleNamespace(
        folder=RunFolder(tmp_path),
        trials=trials_table(various),
        document=lambda top: best_document(various, top),
    )
    write_tables(results, 2)
    names = ["best.csv", "best.json", "best.md", "trials.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / "best.json").read_text()) == best_document(various, 2)
    assert len(list(csv.reader((tmp_path / "trials.csv").open(newline="")))) == 8


@pytest.mark.parametrize("form", ["md", "latex", "html", "csv"])
def test_every_page_says_whether_the_best_was_confirmed(various, form):
    unconfirmed = render(best_document(various, 1), form)
    assert "nconfirmed: the best of many scores flatters" in unconfirmed
    text = render(best_document(various, 1, CONFIRMED), form)
    assert "nconfirmed" not in text
    assert "onfirmed: trial 5 earns" in text


def test_confirmed_means_stand_beside_the_search_scores_in_a_spreadsheet(various):
    rows = list(csv.DictReader(io.StringIO(render(best_document(various, 1, CONFIRMED), "csv"))))
    confirmed = {row["trial"]: row["confirmed"] for row in rows}
    assert confirmed == {
        "2": "",
        "1": "",
        "5": "0.76",
        "0": "0.5",
        "6": "",
    }


def test_configuration_keeps_none_and_truth_values(record, new_trial):
    params = {"norm": None, "bias": True, "crop": 0, "lr": 2.0, "kind": "0"}
    new_trial(record, params, {1: 0.5}, "pruned")
    new_trial(record, {"lr": 2.0, "bias": True}, {1: 0.4}, "pruned")
    config = best_document(record.study, 1)["trials"][0]["config"]
    assert config == params
    assert [type(value) for value in config.values()] == [type(None), bool, int, float, str]
    assert json.loads(render(best_document(record.study, 1), "json"))["trials"][0]["config"] == params


def test_numbers_of_numpy_become_pythons(record):
    number, _ = record.ask(
        optuna.samplers.RandomSampler(seed=0),
        lambda trial: trial.suggest_float("lr", 0, 1),
        ("", {"lr": np.float64(0.5)}),
    )
    record.begin(number, {})
    record.report(number, 1, np.float64(0.25))
    assert yaml.safe_load(render(best_document(record.study, 1), "yaml"))["trials"][0]["config"] == {
        "lr": 0.5
    }


def test_without_a_score_nothing_is_called_best(record, new_trial):
    new_trial(record, {"lr": 0.5}, {1: 0.9}, "failed", "plain")
    text = render(best_document(record.study, 1), "md")
    assert best_row(best_document(record.study, 1)) is None
    assert "plain" in text
    assert "Best configuration" not in text
    assert "lr" not in render(best_document(record.study, 1), "html")
