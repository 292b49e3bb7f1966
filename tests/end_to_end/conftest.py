from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """One Ray for all tests of a session that only need one; `run` uses it instead of its own."""
    from search.early_ray import early_ray
    from search.slots import Slots

    with early_ray(Slots(count=2, cpus=1, gpus=0)) as ray_is_up:
        ray_is_up()
        yield
