from search.best_document import best_document, best_row, confirmed_rows, shown_rows, verdict
from search.final import Confirmation, Confirmed

CONFIRMED = Confirmation(
    planned=6,
    ended=6,
    best=[
        Confirmed(trial=5, baseline="", search_score=0.7, scores=(0.75, 0.77)),
        Confirmed(trial=0, baseline="plain", search_score=0.6, scores=(0.5,), failures=1),
    ],
    failed=[1],
)


def test_best_are_the_top_and_every_baseline(various):
    assert [row["trial"] for row in best_document(various, 1)["trials"]] == [2, 0, 6]
    assert [row["trial"] for row in best_document(various, 3)["trials"]] == [2, 1, 5, 0, 6]
    assert [row["baseline"] for row in best_document(various, 1)["trials"]] == ["", "plain", "deep"]


def test_configuration_has_the_parameters_of_its_own_branch_with_their_types(various):
    configs = {row["trial"]: row["config"] for row in best_document(various, 10)["trials"]}
    assert configs[0] == {"lr": 0.5, "width": 8}
    assert configs[2] == {"lr": 1.0, "depth": 2}
    assert [type(value) for value in configs[2].values()] == [float, int]


def test_shown_rows_are_text(various):
    assert {type(value) for row in shown_rows(best_document(various, 9)) for value in row.values()} == {str}


def test_the_winner_is_the_one_that_was_confirmed_best(various):
    document = best_document(various, 1, CONFIRMED)
    assert [row["trial"] for row in document["trials"]] == [2, 1, 5, 0, 6], "what was tried is in the table"
    assert best_row(document)["trial"] == 5
    assert verdict(document) == "confirmed: trial 5 earns 76.00 % ± 1.41 % over 2 new seeds"
    seeds = [(row["trial"], row["confirmed"], row["seeds"]) for row in confirmed_rows(document)]
    assert seeds == [("5", "76.00 %", "2"), ("0", "50.00 %", "1, 1 failed"), ("1", "-", "all failed")]
    assert confirmed_rows(document)[1]["deviation"] == "-", "one seed has none"


def test_what_is_still_being_confirmed_is_unconfirmed(various):
    document = best_document(various, 1, Confirmation(planned=6, ended=4, best=[], failed=[]))
    assert verdict(document) == "unconfirmed: 4 of 6 trainings with new seeds have ended"
    assert best_row(document)["trial"] == 2
