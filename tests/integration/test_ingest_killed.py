"""`fedloupe-site ingest` killed with -9 at twenty random moments: no case is lost, doubled or left half done."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from fedloupe_server.hub.processes import alive, began

CASES = 12
KILLS = 20
STUDY = {
    "study": "kill-drill",
    "title": "Synthetic volumes",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
    "sequences": [{"name": "t2w"}],
    "aggregation": "plain",
    "sites": [{"name": "alpha", "role": "train"}],
    "radiomics": {"source": "none"},
    "quorum": {"minimum": 1},
}


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Source files of twelve synthetic cases and one without a mask, a home each for the calm and the killed ingest."""
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(3)
    mask = np.zeros((12, 64, 64), np.uint8)
    mask[4:8, 20:40, 20:40] = 1
    lines = ["case,response"]
    for number in range(CASES + 1):
        lines.append(f"ID-{number:03d},{'yes' if number % 2 else 'no'}")
        noise = rng.integers(0, 900, mask.shape).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(source / f"ID-{number:03d}_t2w.nii.gz"))
        if number < CASES:
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(source / f"ID-{number:03d}_mask.nii.gz"))
    (source / "clinical.csv").write_text("\n".join(lines) + "\n")
    hour_ago = time.time() - 3600
    for path in source.iterdir():
        os.utime(path, (hour_ago, hour_ago))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    site = {
        "site": "alpha",
        "source": {
            "format": "nifti",
            "root": str(source),
            "clinical": {"file": "clinical.csv"},
            "files": {"t2w": "{case}_t2w.nii.gz"},
            "mask": "{case}_mask.nii.gz",
        },
    }
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "site.yaml").write_text(yaml.safe_dump(site))
        (tmp_path / name / "secret.key").write_bytes(bytes(range(32)))  # the same pseudonyms in both
    return tmp_path


def start(hospital: Path, home: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fedloupe_client.cli", "ingest", home, "study.yaml", "--workers", "2"]
    return subprocess.Popen(command, cwd=hospital, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(folder: Path, *, but: str = "") -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {name: digest for name, digest in found.items() if not but or not name.startswith(but)}


def children(pid: int) -> set[tuple[int, float]]:
    """Process ids, and when each began."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {(int(word), since) for word in words if (since := began(int(word))) is not None}


def finished(home: Path) -> int:
    """Cases that are kept for the next run."""
    return len(list((home / "ingest" / "cases").glob("[!.]*")))


def await_case(process: subprocess.Popen[bytes], home: Path, kept: int) -> set[tuple[int, float]]:
    """Wait for one more finished case, or for the process to end; the workers that were seen."""
    seen = set()
    while process.poll() is None and finished(home) <= kept:
        seen |= children(process.pid)
        time.sleep(0.002)
    return seen


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for surviving workers in /proc")
class TestAnIngestKilledTwentyTimes:
    def test_ends_in_the_same_bytes_as_an_undisturbed_one(self, hospital):
        source, home = digests(hospital / "source"), hospital / "killed"
        beginning = time.monotonic()
        calm = start(hospital, "calm")
        await_case(calm, hospital / "calm", 0)
        first = time.monotonic() - beginning
        assert calm.wait(timeout=600) == 0
        whole = time.monotonic() - beginning

        moments = random.Random(7)
        killed, resumed, workers = 0, 0, set()
        while killed < KILLS:
            if killed % 5 == 4:  # from the beginning again; the store, if there is one by now, must survive
                shutil.rmtree(home / "ingest", ignore_errors=True)
            kept = finished(home)
            process = start(hospital, "killed")
            if killed % 2:  # while cases are being written, which is a small part of the time
                workers |= await_case(process, home, kept)
                time.sleep(moments.uniform(0, whole - first))
            else:
                deadline = time.monotonic() + moments.uniform(0.05, 1) * whole
                while time.monotonic() < deadline and process.poll() is None:
                    workers |= children(process.pid)
                    time.sleep(0.01)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                resumed += 0 < kept < CASES
            else:
                assert process.returncode == 0
                shutil.rmtree(home / "ingest")
        assert resumed, "no kill met an ingest that was half done"

        assert start(hospital, "killed").wait(timeout=600) == 0
        assert digests(home, but="ingest/") == digests(hospital / "calm", but="ingest/")
        assert {path.name for path in home.iterdir()} == {path.name for path in (hospital / "calm").iterdir()}
        assert not list((home / "ingest").rglob("*.part")) and not list((home / "ingest" / "cases").glob(".*"))
        assert {p.name for p in (home / "ingest" / "cases").iterdir()} == {
            p.name for p in (hospital / "calm" / "ingest" / "cases").iterdir()
        }
        assert digests(hospital / "source") == source
        until = time.monotonic() + 60
        while (survivors := {pid for pid, since in workers if alive(pid, since)}) and time.monotonic() < until:
            time.sleep(0.1)
        assert not survivors
