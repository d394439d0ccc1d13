"""The same bits in every run and with every number of threads, on a tumour large enough for libraries to share work."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from fedloupe.features import FeatureSettings
from fedloupe_client.radiomics import extract_case

SCRIPT = """
import threadpoolctl
from test_determinism import digest
print(digest(), sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}))
"""
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SETTINGS = FeatureSettings(
    log_sigmas_mm=(2.0, 3.0),
    original_families=("spatial", "local", "ivh"),
    simoncelli_levels=(1, 2),
    laws=("L5E5E5",),
)


def digest() -> str:
    """Of all features of 33,000 voxels."""
    image = np.random.default_rng(0).normal(size=(56, 60, 64)).astype(np.float32)
    z, y, x = np.mgrid[:56, :60, :64] - np.array([28, 30, 32])[:, None, None, None]
    row = extract_case({"a": image}, z**2 + y**2 + x**2 < 20**2, 1.0, SETTINGS, {"a": "zscore"})
    assert not row.reasons
    return hashlib.sha256(row.values.tobytes()).hexdigest()


def test_two_runs_in_one_process_give_the_same_bits():
    assert digest() == digest()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_gives_the_same_bits_with_one_thread_and_with_two(threads):
    environment = os.environ | dict.fromkeys(VARIABLES, threads)
    environment["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment)
    found, pools = done.stdout.split(maxsplit=1)
    assert pools.strip() == f"[{threads}]"
    assert found == digest()
