"""Synthetic patients and hospitals as files: images as each site keeps them, `clinical.csv`, `site.yaml`.

write_patient(root, spec, spec.site("north"), 41)     # a pure function of seed, site and index: any process, any order
write_site_tables(root, spec, spec.site("north"))

    root/north/site.yaml
    root/north/data/clinical.csv
    root/north/data/dicom/NOR-0042/1_t2w/IM-0001.dcm ...     or data/images/LAK-0042/t2w.nii.gz, tumour.nii.gz
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fedloupe_server.simulation.cohort.dicom import PATTERNS, CaseNames, write_series
from fedloupe_server.simulation.cohort.dicom_roi import write_rtstruct, write_segmentation
from fedloupe_server.simulation.cohort.latents import Patient, draw_patient
from fedloupe_server.simulation.cohort.nifti import write_nifti
from fedloupe_server.simulation.cohort.scanner import CaseImages, simulate_case
from fedloupe_server.simulation.cohort.spec import FIRST_SEQUENCE, CohortSpec, SiteSpec

CLINICAL_COLUMNS = (
    "case", "response", "age", "sex", "ct_stage", "cea", "emvi", "mri_date", "outcome_date", "synthetic",
    "true_probability",
)  # fmt: skip


def write_patient(root: Path, spec: CohortSpec, site: SiteSpec, index: int) -> Patient:
    """Write the images and the contour of one patient under `root/<site>/data`; files already there are replaced.

    Args:
        root: folder of the whole cohort.
        spec: its seed counts, its other sites do not.
        site: one of its sites.
        index: from 0; may exceed `site.patients`.
    """
    images = simulate_case(spec, site, index)
    data = root / site.name / "data"
    if site.format == "nifti":
        _write_nifti_case(data / "images" / images.patient.case, images, site)
    else:
        _write_dicom_case(data / "dicom" / images.patient.case, images, spec, site)
    return images.patient


def write_site_tables(root: Path, spec: CohortSpec, site: SiteSpec) -> list[Patient]:
    """Write `site.yaml` and `data/clinical.csv` of one site; returns its patients in order."""
    patients = [draw_patient(spec, site, index) for index in range(site.patients)]
    data = root / site.name / "data"
    data.mkdir(parents=True, exist_ok=True)
    rows = [
        (
            p.case,
            p.response,
            p.age,
            p.sex,
            p.ct_stage,
            "" if p.cea is None else p.cea,
            p.emvi or "",
            *dates(spec, p),
            "yes",
            f"{p.probability:.6f}",
        )
        for p in patients
    ]
    (data / "clinical.csv").write_text(_table(CLINICAL_COLUMNS, rows), encoding="utf-8")
    text = yaml.safe_dump(site_configuration(site), sort_keys=False, allow_unicode=True)
    (root / site.name / "site.yaml").write_text(f"# SYNTHETIC hospital, generated\n{text}", encoding="utf-8")
    return patients


def dates(spec: CohortSpec, patient: Patient) -> tuple[str, str]:
    """Day of the MRI and day on which the response was judged, 12 to 20 weeks later; by a hash, bearing on nothing."""
    drawn = hashlib.sha256(f"{spec.seed}|{patient.site}|{patient.case}|dates".encode()).digest()
    imaging = date(2022, 1, 1) + timedelta(days=int.from_bytes(drawn[:4], "big") % 1000)
    outcome = imaging + timedelta(days=84 + int.from_bytes(drawn[4:8], "big") % 57)
    return imaging.isoformat(), outcome.isoformat()


def write_truth(root: Path, patients: list[Patient]) -> None:
    """Write `root/truth.csv`: latents and true probability of every patient, beside the sites and not in them."""
    names = tuple(patients[0].latents)
    columns = ("site", "case", *names, "probability", "response", "synthetic")
    rows = [
        (
            p.site,
            p.case,
            *(f"{p.latents[name]:.6f}" for name in names),
            f"{p.probability:.6f}",
            p.response,
            "yes",
        )
        for p in patients
    ]
    (root / "truth.csv").write_text(_table(columns, rows), encoding="utf-8")


def site_configuration(site: SiteSpec) -> dict[str, Any]:
    """The content of `site.yaml`, in the schema of the hospital client's site configuration."""
    source: dict[str, Any] = {
        "format": "nifti" if site.format == "nifti" else "dicom",
        "root": "data",
        "clinical": {
            "file": "clinical.csv",
            "case": "case",
            "dates": {"imaging": "mri_date", "outcome": "outcome_date"},
        },
    }
    if site.format == "nifti":
        source["files"] = {name: f"images/{{case}}/{name}.nii.gz" for name in site.sequences}
        source["mask"] = "images/{case}/tumour.nii.gz"
    else:
        source["images"] = "dicom"
        source["series"] = {name: PATTERNS[site.vendor][name] for name in site.sequences}
        source["roi"] = "(?i)tumou?r"
    return {"site": site.name, "source": source}


def _write_nifti_case(folder: Path, images: CaseImages, site: SiteSpec) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.volumes.items():
        path = folder / f"{name}.nii.gz"
        write_nifti(path, image.array, image.spacing, image.origin, f"SYNTHETIC {name} {site.name}")
    grid = images.volumes[FIRST_SEQUENCE]
    mask = images.mask.astype(np.uint8)
    write_nifti(folder / "tumour.nii.gz", mask, grid.spacing, grid.origin, f"SYNTHETIC tumour {site.name}")


def _write_dicom_case(folder: Path, images: CaseImages, spec: CohortSpec, site: SiteSpec) -> None:
    names = CaseNames(spec.seed, images.patient, site.vendor)
    headers = {
        name: write_series(folder / f"{number}_{name}", image, name, names)
        for number, (name, image) in enumerate(images.volumes.items(), start=1)
    }
    write_roi = write_rtstruct if site.format == "dicom-rtstruct" else write_segmentation
    write_roi(folder / "roi.dcm", images.mask, headers[FIRST_SEQUENCE], names)


def _table(columns: tuple[str, ...], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
