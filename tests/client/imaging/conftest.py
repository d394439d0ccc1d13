"""A store of one case made in the test, from arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe.study import Study, parse_study
from fedloupe_client.ingest import CaseRecord, Index, Store
from fedloupe_client.ingest.formats.volumes import write_clean


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(sequences: list[dict[str, Any]], **imaging: Any) -> Study:
        return parse_study(
            {
                "study": "tiny",
                "title": "Tiny",
                "endpoint": {"name": "response", "column": "trg", "positive": ["good"], "negative": ["poor"]},
                "sequences": sequences,
                "aggregation": "plain",
                "sites": [{"name": "north", "role": "train"}],
                "quorum": {"minimum": 1},
                "radiomics": {"source": "none"},
                "imaging": imaging,
            }
        )

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., tuple[Store, CaseRecord]]:
    def make(mask: sitk.Image, **volumes: sitk.Image) -> tuple[Store, CaseRecord]:
        folder = tmp_path / "store" / "cases" / "0123456789abcdef"
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in {**volumes, "mask": mask}.items():
            write_clean(image, folder / f"{name}.nii.gz")
        record = CaseRecord(case=folder.name, patient="f" * 16, status="ready", label=1, sequences=tuple(volumes))
        index = Index(schema_version=1, site="north", source="nifti", endpoint_column="trg", records=(record,))
        return Store(tmp_path / "store", index), record

    return make


@pytest.fixture
def make_image() -> Callable[..., sitk.Image]:
    def make(
        array: np.ndarray,
        spacing: tuple[float, float, float] = (2.0, 2.0, 4.0),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    ) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        return image

    return make
