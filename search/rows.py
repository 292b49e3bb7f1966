"""Rows of Optuna's own tables, many in one statement.

Optuna's storage asks the database two questions before each row that it writes, and commits each by itself:
with hundreds of results a second that would be most of a driver's work. Here one process writes a study that
it knows by heart. What is written is what Optuna 5 writes; its own tools read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from sqlalchemy import Connection


SCHEMA = "v3.2.0.a"
"""The version of Optuna's tables that is written here."""


def insert_trial(connection: Connection, study_id: int, trial: FrozenTrial) -> int:
    """Write a whole trial under its number; returns the database's own id of it."""
    rows = _models()
    head = {
        "number": trial.number,
        "study_id": study_id,
        "state": trial.state,
        "datetime_start": _stored_time(trial.datetime_start),
        "datetime_complete": _stored_time(trial.datetime_complete),
    }
    key = connection.execute(_insert(rows.TrialModel), head).inserted_primary_key
    assert key is not None
    trial_id = int(key[0])
    params = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]
    if params:
        connection.execute(_insert(rows.TrialParamModel), params)
    put_notes(connection, ((trial_id, key, value) for key, value in trial.user_attrs.items()))
    put_marks(connection, ((trial_id, key, value) for key, value in trial.system_attrs.items()))
    put_scores(connection, ((trial_id, step, score) for step, score in trial.intermediate_values.items()))
    _insert_value(connection, trial_id, trial.values)
    return trial_id


def put_notes(connection: Connection, notes: Iterable[tuple[int, str, Any]]) -> None:
    """Write user attributes of trials in order: id, name and value, which replaces an earlier one."""
    _put(connection, _models().TrialUserAttributeModel, ("trial_id", "key", "value_json"), _as_json(notes))


def put_marks(connection: Connection, marks: Iterable[tuple[int, str, Any]]) -> None:
    """Write system attributes of trials, likewise."""
    _put(connection, _models().TrialSystemAttributeModel, ("trial_id", "key", "value_json"), _as_json(marks))


def put_scores(connection: Connection, scores: Iterable[tuple[int, int, float]]) -> None:
    """Write intermediate values of trials: id, step and value, which replaces an earlier one."""
    model = _models().TrialIntermediateValueModel
    stored = (
        (trial_id, step, *model.intermediate_value_to_stored_repr(score)) for trial_id, step, score in scores
    )
    _put(connection, model, ("trial_id", "step", "intermediate_value", "intermediate_value_type"), stored)


def end_trial(connection: Connection, trial_id: int, trial: FrozenTrial) -> None:
    """Write the state that a trial has come to, when, and its value."""
    table = _models().TrialModel.__table__
    ended = {"state": trial.state, "datetime_complete": _stored_time(trial.datetime_complete)}
    connection.execute(table.update().where(table.c.trial_id == trial_id).values(ended))
    _insert_value(connection, trial_id, trial.values)


def _insert_value(connection: Connection, trial_id: int, values: list[float] | None) -> None:
    model = _models().TrialValueModel
    for objective, value in enumerate(values or ()):
        stored, kind = model.value_to_stored_repr(value)
        row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
        connection.execute(_insert(model), row)


def _put(
    connection: Connection, model: Any, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
) -> None:
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    if named:
        connection.execute(_upsert(connection.dialect.name, model, columns), named)


@cache
def _insert(model: Any) -> Any:
    return model.__table__.insert()


@cache
def _upsert(dialect: str, model: Any, columns: tuple[str, ...]) -> Any:
    """A statement that writes these columns, and replaces the row where the first two are there already."""
    from sqlalchemy.dialects import postgresql, sqlite

    insert = (sqlite if dialect == "sqlite" else postgresql).insert(model.__table__)
    replaced = {name: insert.excluded[name] for name in columns[2:]}
    return insert.on_conflict_do_update(index_elements=list(columns[:2]), set_=replaced)


def _as_json(notes: Iterable[tuple[int, str, Any]]) -> Iterable[tuple[int, str, str]]:
    return ((trial_id, key, json.dumps(value)) for trial_id, key, value in notes)


def _stored_time(moment: datetime | None) -> datetime | None:
    """In UTC without saying so, of a time here without saying so: as Optuna keeps them."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


@cache
def _models() -> Any:
    """Optuna's tables, which `SCHEMA` is the version of."""
    from optuna.storages._rdb import models  # it loads SQLAlchemy

    return models
