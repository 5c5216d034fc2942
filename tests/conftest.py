"""Set-up that all tests share: one thread a worker, no picture window, no cache outside the test's own folder."""

import os
import shutil
import tempfile

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # two workers on two cores: more threads only get in each other's way
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

CACHE = pytest.StashKey[str]()

settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("project")


def pytest_configure(config):
    if not hasattr(
        config, "workerinput"
    ):  # the workers share the folder: what one has traced, the others read
        config.stash[CACHE] = os.environ["GRADFIT_CACHE"] = tempfile.mkdtemp(prefix="gradfit-cache-")


def pytest_unconfigure(config):
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


def pytest_collection_modifyitems(items):
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="this machine has no GPU"))
