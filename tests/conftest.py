"""For all tests: hypothesis judges results, not how busy the machine is; two processes share two cores."""

import os

# two processes with two threads each would wait for one another on two cores; read when numpy is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")
