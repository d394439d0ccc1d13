"""The machine: versions, disk, memory, cores, accelerator and feature engine, against what the study needs here.

facts = machine(home, needed_disk(study, store, groups, features=1070), study)
machine_findings(facts, peak_bytes)
"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fedloupe.models import Schema, build_model, build_unet, flatten
from fedloupe.study import Study
from fedloupe_client.ingest import Store
from fedloupe_client.ingest.workers import available_cores
from fedloupe_client.preflight.findings import Finding, Frozen, MachineTooSmall
from fedloupe_client.radiomics.conformance import EngineCheck, check_engine

PACKAGES = ("fedloupe", "fedloupe-client", "torch", "SimpleITK", "flwr")
GIB = 2**30
RESERVE = GIB // 4
"""For logs, audit chain, ledger and this page."""


class Machine(Frozen):
    """What this machine has. Sizes in bytes; None where the system does not say.

    Attributes:
        versions: of Python and the packages that matter; `not installed` where a package is not there.
        cores: that this process may use.
        accelerator: name of the CUDA device, or `none`.
        needed_bytes: disk that the study will still take, see `needed_disk`.
        engine: whether this machine's radiomics give the agreed numbers; None where the study computes none.
    """

    system: str
    versions: dict[str, str]
    cores: int
    accelerator: str
    memory_bytes: int | None
    available_bytes: int | None
    disk_free_bytes: int
    needed_bytes: int
    engine: EngineCheck | None


def machine(home: Path, needed_bytes: int, study: Study) -> Machine:
    """Look at the machine, at the disk that holds `home`, and at the engine if the study computes features."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        versions={"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        cores=available_cores(),
        accelerator=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        memory_bytes=_memory("MemTotal"),
        available_bytes=_memory("MemAvailable"),
        disk_free_bytes=shutil.disk_usage(home).free,
        needed_bytes=needed_bytes,
        engine=check_engine() if study.radiomics.source == "computed" else None,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _memory(key: str) -> int | None:
    """A line of /proc/meminfo in bytes; None on systems without it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(f"{key}:")]
    return int(found[0][1]) * 1024 if found else None


def needed_disk(study: Study, store: Store, groups: tuple[str, ...], features: int) -> int:
    """Bytes that the study may still take: a second store beside the first at the next ingest, every case derived
    once more, one stored answer a round, and a reserve.
    """
    schema = Schema.of(study, groups)
    crop = 2 * (schema.mr + schema.ct) * schema.crop**3  # float16
    if study.segmentation is not None:
        crop = (2 * len(study.sequences) + 1) * study.segmentation.edge(study.imaging.spacing_mm) ** 3
        weights = flatten(build_unet(study)).nbytes
    else:
        weights = flatten(build_model(study, schema)).nbytes
    stored = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    return stored + len(store.ready) * (crop + 8 * features) + study.training.rounds * weights + RESERVE


def machine_findings(found: Machine, peak_bytes: int | None) -> list[Finding]:
    """An engine that deviates, disk and memory that do not suffice; `peak_bytes` is what a round took, where known."""
    findings = []
    if found.engine is not None and (problem := found.engine.problem) is not None:
        findings.append(Finding.of(problem, "fix"))
    if found.disk_free_bytes < found.needed_bytes:
        error = MachineTooSmall(
            f"{found.disk_free_bytes / GIB:.1f} GiB are free on the home folder's disk, "
            f"the study may take {found.needed_bytes / GIB:.1f} GiB",
            remedy="free space, or move the home folder to a larger disk",
        )
        findings.append(Finding.of(error, "fix", commands=("df -h HOME", "du -sh HOME/*")))
    if peak_bytes is not None and found.available_bytes is not None and found.available_bytes < peak_bytes:
        error = MachineTooSmall(
            f"{found.available_bytes / GIB:.1f} GiB of memory are available, a round takes {peak_bytes / GIB:.1f} GiB",
            remedy="end other programs, or use a machine with more memory",
        )
        findings.append(Finding.of(error, "fix", commands=("free -h",)))
    return findings
