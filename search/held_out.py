"""The images that no trial has seen, for the final evaluation; each reading of the test part is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.data import Part, ProgressFactory, load_dataset, load_test

if TYPE_CHECKING:
    from search.results import Results

TEST_READS = "test_reads"
"""The attribute of a study that lists when the test part was read: ISO times, the first one first."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What the final models are evaluated on."""

    part: Literal["test", "validation"]
    """validation only where the data set has no test part."""
    images: Part
    reads: list[str]
    """When the test part was read, this time included."""


def read_held_out(
    results: Results,
    *,
    data_dir: Path | None = None,
    image_size: int,
    progress: ProgressFactory | None = None,
) -> HeldOut:
    """The test part of the run's data set, and a note of this reading; validation where there is none.

    `data_dir`: None is where the run had its data. `image_size` in pixels. Raises ValueError (UsageError,
    DataError) where the data set is not there, or not the one of the run, and where the reading cannot be
    noted.
    """
    from search.resume import saved_document, saved_settings
    from search.settings import UsageError

    settings = saved_settings(results.folder)
    place = settings.data_dir if data_dir is None else data_dir
    source: dict[str, Any] = {"data_dir": place, "image_size": image_size, "seed": settings.seed}
    dataset = load_dataset(settings.dataset, val_fraction=settings.val_fraction, progress=progress, **source)
    if dataset.fingerprint != saved_document(results.folder)["hashes"]["data"]:
        raise UsageError(
            f"the data set {dataset.name} is not what it was when {results.folder.location} searched it, so "
            "nothing of it can be trusted to be new to the models: restore it"
        )
    test = load_test(dataset.name, progress=progress, **source)
    if test is None:
        return HeldOut("validation", dataset.val, readings(results))
    # before anything is computed: a reading that is cut off has been one
    return HeldOut("test", test, note_reading(results))


def readings(results: Results) -> list[str]:
    """When the test part of the run was read, as ISO times, the first one first."""
    return list(results.study.user_attrs.get(TEST_READS, ()))


def note_reading(results: Results) -> list[str]:
    """Note in the study that the test part is read now; returns all readings. Raises UsageError."""
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    from search.database import reason
    from search.mirror import save_record
    from search.settings import UsageError

    reads = [*readings(results), datetime.now(UTC).isoformat(timespec="seconds")]
    try:
        results.study.set_user_attr(TEST_READS, reads)
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        raise UsageError(
            f"that the test part was read cannot be noted in the study, so it is not used: {reason(error)}"
        ) from error
    if results.folder.address:
        save_record(results.folder)
    if readings(results) != reads:  # Optuna is silent where two write the same at once
        raise UsageError("the test part is being read by another evaluation at this moment: try again")
    return reads
