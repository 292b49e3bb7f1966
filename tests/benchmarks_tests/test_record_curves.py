import json

import numpy as np
import pytest

from benchmarks.record_curves import Recording, collect, record


@pytest.fixture
def recording(tmp_path):
    return Recording(
        dataset="digits",
        data_dir=None,
        image_size=8,
        train_images=64,
        val_images=40,
        epochs=2,
        limit=1000.0,
        seed=0,
        work=tmp_path,
    )


@pytest.mark.slow
def test_recorded_trial_has_a_whole_curve_and_is_not_trained_again(recording):
    record(recording, 0)
    written = (recording.work / "00000.json").read_bytes()
    record(recording, 0)
    assert (recording.work / "00000.json").read_bytes() == written
    curves, left_out = collect(recording)
    assert left_out == 0
    values, seconds = curves.curve(curves.trials[0].params)
    assert values.shape == seconds.shape == (2,)
    assert np.all((values >= 0) & (values <= 1))
    assert np.all(seconds > 0)


def test_what_takes_too_long_is_left_out_and_counted(recording):
    record(recording, 0)
    document = json.loads((recording.work / "00000.json").read_text())
    assert not document["left_out"]
    object.__setattr__(recording, "limit", 1e-9)
    record(recording, 1)
    curves, left_out = collect(recording)
    assert (len(curves.trials), left_out) == (1, 1)
