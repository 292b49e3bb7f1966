"""Where the records of a run are: its own database file, or a server."""

from __future__ import annotations

from typing import Literal

import optuna

from search.database import open_storage, remove_study, sqlite_url
from search.preflight import Prepared
from search.results import has_begun, study_name
from search.study import BEGUN, StudyRecord


def study_url(prepared: Prepared) -> str:
    """Address of the database that has the run's studies."""
    url = prepared.settings.study_storage
    return sqlite_url(prepared.folder.database) if url == "auto" else url


def search_record(prepared: Prepared, *, resume: bool) -> StudyRecord:
    """What is on record of the search already, or a new record: also where an earlier driver was killed
    making it.
    """
    folder, url = prepared.folder, study_url(prepared)
    name = study_name(folder) or folder.path.name
    if resume and has_begun(folder, prepared.settings.study_storage):
        return StudyRecord.reopen(url, name)
    if resume:
        remove_study(url, name)
    record = StudyRecord(name, prepared.settings.direction, url)
    record.set_attributes(
        {
            "run": name,
            "space": prepared.space.name,
            "dataset": prepared.dataset.name,
            "note": prepared.dataset.note,
            "metric": prepared.settings.metric,
            "first": prepared.transfer.first,
        }
    )
    record.name_metric(f"validation {prepared.settings.metric}")
    record.add_imported(prepared.transfer.trials)
    record.set_attributes({BEGUN: True})
    return record


def open_record(
    prepared: Prepared, name: str, direction: Literal["maximize", "minimize"], metric: str
) -> StudyRecord:
    """The record of a further study of the run, made where it is not there yet; `metric` names its values."""
    url = study_url(prepared)
    storage = open_storage(url)
    known = optuna.get_all_study_names(storage)
    storage.engine.dispose()
    if name in known:
        return StudyRecord.reopen(url, name)
    record = StudyRecord(name, direction, url)
    record.name_metric(metric)
    return record
