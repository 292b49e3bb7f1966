from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """One Ray for all tests of a session that only need one; `run` uses it instead of its own."""
    from search.local_ray import local_ray
    from search.slots import Slots

    with local_ray(Slots(count=2, cpus=1, gpus=0)):
        yield
