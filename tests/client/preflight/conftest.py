"""Two synthetic hospitals made in the test: one that is ready, and one with every kind of trouble."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from fedloupe.features import FeatureSettings
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest
from fedloupe_client.preflight import Seen, preflight, write_page
from fedloupe_client.preflight.rehearsal import dry_round

CASES = 30
SHAPE = (12, 24, 24)
FIRST_ORDER = FeatureSettings(families=("firstorder",), log_sigmas_mm=(), wavelet=None).model_dump(mode="json")


def make_study(**changes: Any) -> Study:
    content: dict[str, Any] = {
        "study": "tiny",
        "title": "Synthetic volumes",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
        "sequences": [{"name": "t2w"}, {"name": "adc", "intensity": "physical"}],
        "clinical": [{"name": "age", "column": "age", "centre": 60}],
        "aggregation": "plain",
        "sites": [{"name": "alpha", "role": "train"}],
        "imaging": {"spacing_mm": 3.0, "crop_mm": 24, "bias_correction": "none"},
        "radiomics": {"source": "computed", "settings": FIRST_ORDER},
        "model": {"components": 2, "image": True, "width": 8, "depth": 1, "heads": 2},
        "training": {"rounds": 2, "local_epochs": 1},
        "quorum": {"minimum": 1},
    }
    return parse_study({**content, **changes})


class Hospital:
    """Thirty synthetic cases `PAT-7700nn`, half with the event, brighter where there is one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "data").mkdir(parents=True)
        self.rows = {name: f"{'yes' if i % 2 else 'no'},{50 + i}" for i, name in enumerate(names())}
        rng = np.random.default_rng(0)
        for i, name in enumerate(names()):
            for sequence, level in (("t2w", 300), ("adc", 1100)):
                array = level + 20 * rng.standard_normal(SHAPE)
                array[4:8, 8:15, 8:15] += 60 + 40 * (i % 2)
                array[:, :3], array[:, -3:] = 0, 0  # air
                self.write(name, sequence, array.astype(np.float32))
            mask = np.zeros(SHAPE, np.uint8)
            mask[4:8, 8 : 14 + i % 2, 8:14] = 1
            self.write(name, "mask", mask)
        source = {
            "format": "nifti",
            "root": "data",
            "clinical": {"file": "clinical.csv"},
            "files": {"t2w": "{case}_t2w.nii.gz", "adc": "{case}_adc.nii.gz"},
            "mask": "{case}_mask.nii.gz",
        }
        (home / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
        (home / "policy.yaml").write_text("{minimum_cohort: 3, minimum_cell: 1}")

    def path(self, name: str, what: str) -> Path:
        return self.home / "data" / f"{name}_{what}.nii.gz"

    def write(self, name: str, what: str, array: np.ndarray, slice_mm: float = 3.0) -> None:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((2.0, 2.0, slice_mm))
        sitk.WriteImage(image, str(self.path(name, what)))

    def ingest(self, study: Study) -> None:
        table = ["case,response,age", *(f"{name},{cells}" for name, cells in self.rows.items())]
        (self.home / "data" / "clinical.csv").write_text("\n".join(table) + "\n")
        ingest(load_site(self.home), study, self.home)


def names() -> list[str]:
    return [f"PAT-7700{i:02d}" for i in range(CASES)]


@dataclass(frozen=True)
class Checked:
    """A hospital after its check."""

    hospital: Hospital
    study: Study
    seen: Seen
    page: Path

    def case(self, name: str) -> str:
        """The pseudonym of a local id."""
        from fedloupe_client.preflight.local import local_names

        return next(case for case, local in local_names(self.hospital.home).items() if local.local == name)


def _check(hospital: Hospital, study: Study) -> Checked:
    seen = preflight(hospital.home, study)
    return Checked(hospital, study, seen, write_page(seen, hospital.home, Path("study.yaml")))


@pytest.fixture(scope="session")
def a_hospital() -> Callable[[Path], tuple[Hospital, Study]]:
    """Another hospital in an empty folder, not ingested, and the study."""
    return lambda home: (Hospital(home), make_study())


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    hospital, study = Hospital(tmp_path_factory.mktemp("healthy")), make_study()
    hospital.ingest(study)
    return _check(hospital, study)


@pytest.fixture(scope="session")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Nine cases in trouble, by number: see `test_preflight_sites.TROUBLE`."""
    hospital, study = Hospital(tmp_path_factory.mktemp("sick")), make_study()
    case = names()
    hospital.write(case[1], "mask", np.zeros(SHAPE, np.uint8))
    damaged = hospital.path(case[3], "t2w")
    damaged.write_bytes(damaged.read_bytes()[:3000])
    hospital.path(case[4], "adc").unlink()
    hospital.rows[case[5]] = "perhaps,55"
    for what in ("t2w", "adc"):
        hospital.path(case[7], what).write_bytes(hospital.path(case[6], what).read_bytes())
    for what in ("t2w", "adc", "mask"):
        image = sitk.ReadImage(str(hospital.path(case[8], what)))
        hospital.write(case[8], what, sitk.GetArrayFromImage(image), slice_mm=8.0)
    hospital.write(case[9], "t2w", np.full(SHAPE, 7, np.float32))
    lettered = sitk.GetArrayFromImage(sitk.ReadImage(str(hospital.path(case[20], "t2w"))))
    for column in (4, 9, 14):  # three letters of four pixels
        lettered[:, 1:3, column : column + 2] = 500
    hospital.write(case[20], "t2w", lettered)
    for name in case[10:20]:
        hospital.rows[name] = hospital.rows[name].split(",")[0] + ","
    with pytest.MonkeyPatch.context() as patch:
        refuse_reading(patch, hospital.path(case[2], "t2w"))
        hospital.ingest(study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedloupe_client.preflight.check.rehearse", dry_round)  # a process of its own costs seconds
        return _check(hospital, study)


def refuse_reading(patch: pytest.MonkeyPatch, refused: Path) -> None:
    """Make one file unreadable for permission, whoever runs the test (root may read everything)."""
    real = builtins.open

    def guarded(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int) and Path(file) == refused:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **kwargs)

    patch.setattr(builtins, "open", guarded)
    patch.setattr(io, "open", guarded)  # the one that pathlib uses
