from types import SimpleNamespace

import numpy as np
import pytest

from search.object_store import MEBIBYTE, check_room, free_shared_bytes, store_bytes
from search.settings import UsageError

GIBIBYTE = 1024 * MEBIBYTE


class Part(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.labels)


def dataset(train: int, size: int) -> SimpleNamespace:
    """A data set of so many training images, and a tenth as many that validate, without their memory."""
    parts = [
        Part(images=np.broadcast_to(np.uint8(0), (n, size, size, 3)), labels=np.zeros(n, np.int64))
        for n in (train, train // 10)
    ]
    return SimpleNamespace(train=parts[0], val=parts[1])


def test_a_data_set_that_does_not_fit_is_refused_with_the_figures_and_a_size_that_does():
    large = dataset(100_000, 224)
    with pytest.raises(UsageError) as caught:
        check_room(large, room=8 * GIBIBYTE)
    text = str(caught.value)
    assert "110,000 images of 224 px need 18.7 GiB, and 8.0 GiB are free" in text
    size = int(text.partition("--image-size ")[2].split()[0])
    check_room(dataset(100_000, size), room=8 * GIBIBYTE)
    with pytest.raises(UsageError):
        check_room(dataset(100_000, size + 2), room=8 * GIBIBYTE)


def test_where_no_size_would_fit_only_fewer_images_are_advised():
    with pytest.raises(UsageError, match="are free; give fewer images"):
        check_room(dataset(100, 32), room=MEBIBYTE)


def test_usual_data_sets_fit():
    check_room(dataset(50_000, 32))
    assert (free_shared_bytes() or GIBIBYTE) > store_bytes(0)
