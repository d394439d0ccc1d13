"""The drawing model of a site, for its cases without a mask of their own.

    drawer = Drawer.of(source, study)             # None: the site has none, or the study trains one itself
    mask = drawer.draw(volumes, local)            # raises `DrawingEmpty` where it finds no tumour

A site's own mask always wins; what a model drew is marked with its digest wherever it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import SimpleITK as sitk

from fedloupe.drawing import DrawingModel, DrawingUnreadable, read_drawing
from fedloupe.study import Study
from fedloupe_client.config import DicomSource, NiftiSource, TableSource
from fedloupe_client.ingest.problems import DrawingEmpty, DrawingUnsuited, MaskMissing


@dataclass(frozen=True)
class Drawer:
    """Where the model lies, its digest, and the sequences that it needs; small enough for any process."""

    folder: Path
    model: str
    needs: tuple[str, ...]

    @classmethod
    def of(cls, source: DicomSource | NiftiSource | TableSource, study: Study) -> Drawer | None:
        """The site's drawing model, where it has one and the study is not a drawing study itself.

        Raises:
            DrawingUnreadable: the folder holds no model.
            DrawingUnsuited: it was trained on other sequences than the study's.
        """
        if isinstance(source, TableSource) or source.drawing is None or study.segmentation is not None:
            return None
        card = read_drawing(source.drawing).card
        ours = {s.name: (s.modality, s.intensity) for s in study.sequences}
        problems = [
            f"`{s.name}` ({s.modality}, {s.intensity})"
            for s in card.sequences
            if ours.get(s.name) != (s.modality, s.intensity)
        ]
        if problems:
            problems = [f"it needs {', '.join(problems)}, which the study does not have"]
        elif card.sequences[0].name != study.sequences[0].name:
            problems = [f"it draws on `{card.sequences[0].name}`, the study's masks lie on `{study.sequences[0].name}`"]
        if problems:
            raise DrawingUnsuited(
                f"the drawing model does not suit the study: {problems[0]}",
                where=str(source.drawing),
                remedy="ask the coordinator for a model of this study's sequences, or remove `source.drawing`",
            )
        return cls(source.drawing, card.model, tuple(s.name for s in card.sequences))

    def draw(self, volumes: Mapping[str, sitk.Image], where: str) -> sitk.Image:
        """The tumour of a case that has no mask.

        Args:
            volumes: the case's sequences on their native grids.
            where: its local id, for errors.

        Raises:
            MaskMissing: a sequence that the model needs is missing as well.
            DrawingEmpty: it finds no tumour.
            DrawingUnreadable: the folder changed since ingest began.
            ImageFlat: a sequence without contrast.
        """
        if missing := [name for name in self.needs if name not in volumes]:
            raise MaskMissing(
                f"there is no mask, and the drawing model needs {missing}, which the case does not have",
                where=where,
                remedy="draw the tumour, or add the sequence",
            )
        from fedloupe_client.imaging.drawing import draw  # PyTorch, for the sites and cases that need it

        mask = draw(_loaded(self.folder, self.model), volumes, where)
        if not sitk.GetArrayViewFromImage(mask).any():
            raise DrawingEmpty(
                "there is no mask, and the drawing model finds no tumour", where=where, remedy="draw the tumour"
            )
        return mask


@lru_cache(maxsize=1)
def _loaded(folder: Path, model: str) -> DrawingModel:
    found = read_drawing(folder)
    if found.card.model != model:
        raise DrawingUnreadable(
            "the drawing model changed while ingest worked", where=str(folder), remedy="run ingest again"
        )
    return found
