"""The page of one patient, which stays at the hospital: headline first, then why, then how far to believe it.

path = write_prediction(frozen, predicted)          # home/predictions/<case>.html, mode 0600
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fedloupe_client.gate.disk import write_atomic
from fedloupe_client.predicting import charts
from fedloupe_client.predicting.abstaining import CLIPPED_SHARE, radiomics_words, value_words
from fedloupe_client.predicting.inputs import FrozenModel
from fedloupe_client.predicting.pictures import overlaid, thumbnail
from fedloupe_client.predicting.problems import PredictionUnwritable
from fedloupe_client.predicting.result import MapResult, NeighbourResult, RangePart
from fedloupe_client.predicting.sanity import ALIKE, MATTERS
from fedloupe_client.predicting.single import DrawnMap, Predicted, percent
from fedloupe_client.preflight.pictures import Plane, middle

FOLDER = "predictions"
USED = {
    "train": "This patient trained the model, which has seen the outcome: these numbers flatter it.",
    "tune": "This patient tuned the model (threshold, calibration, prediction set): these numbers flatter it somewhat.",
    "test": "This patient tested the model and took no part in making it.",
    "new": "This patient took no part in making the model.",
}
SPLITS = {"train": "trained the model", "tune": "tuned it", "test": "only tested it"}


@dataclass(frozen=True)
class ShownMap:
    """A map's pictures: through its peak, through the tumour's centre, and one of random weights through the peak."""

    result: MapResult
    sequence: str
    top: float
    peak: tuple[Plane, ...]
    centre: tuple[Plane, ...]
    random: tuple[Plane, ...]


@dataclass(frozen=True)
class ShownNeighbour:
    """A patient alike, by the hospital's own name."""

    result: NeighbourResult
    local: str
    picture: Plane | None


def write_prediction(frozen: FrozenModel, predicted: Predicted) -> Path:
    """Write `home/predictions/<case>.html`, readable by its owner only, whole or not at all.

    Returns:
        The path of the page.

    Raises:
        PredictionUnwritable: the folder or the file cannot be written.
        StoreUnreadable: a neighbour's image.
    """
    folder = frozen.home / FOLDER
    text = render(frozen, predicted, datetime.now().astimezone())
    path = folder / f"{predicted.result.case}.html"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, text.encode())
    except OSError as error:
        raise PredictionUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(folder),
            remedy="check that the home folder may be written and its disk has room",
        ) from None
    return path


def render(frozen: FrozenModel, predicted: Predicted, when: datetime) -> str:
    """The page's HTML; the same input gives the same text."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("fedloupe_client.predicting"), PackageLoader("fedloupe_client.preflight")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = lambda png: Markup("data:image/png;base64,") + base64.b64encode(png).decode()
    environment.filters["percent"] = percent
    environment.filters["part"] = part_words
    environment.filters["named"] = named
    environment.filters["value"] = lambda part: value_words(frozen.study, part.name, part.value)
    sheets = ("check.css", "patient.css")
    style = "\n".join(environment.loader.get_source(environment, s)[0] for s in sheets) if environment.loader else ""
    result = predicted.result
    name = frozen.names.get(result.case)
    return environment.get_template("patient.html").render(
        style=Markup(style),
        result=result,
        local=name.local if name else "",
        maps=[_shown(one) for one in predicted.maps],
        neighbours=[_neighbour(frozen, one) for one in result.neighbours],
        scale=charts.probability_scale(result),
        bars=charts.attribution_bars(result.attribution),
        curve=charts.deletion_curve,
        used=USED[result.used_for],
        splits=SPLITS,
        kinds=charts.KINDS,
        alike=ALIKE,
        matters=MATTERS,
        clipped=CLIPPED_SHARE,
        voxel=frozen.study.imaging.spacing_mm,
        crop=frozen.study.imaging.crop_mm,
        when=when.strftime("%d %B %Y, %H:%M"),
    )


def named(text: str) -> Markup:
    """A sentence whose names stand in backticks, as the page writes it."""
    return Markup(re.sub(r"`([^`]*)`", r"<b>\1</b>", str(escape(text))))


def part_words(part: RangePart) -> str:
    """A part of the range in words."""
    if part.kind == "embedding":
        return "images and values together, as the model reads them"
    return radiomics_words(part.name) if part.kind == "radiomics" else f"`{part.name}`"


def _shown(one: DrawnMap) -> ShownMap:
    z, y, x = (int(at) for at in middle(one.tumour))
    top, other = float(np.abs(one.heat).max()), float(np.abs(one.random).max())
    return ShownMap(
        one.result,
        one.sequence,
        top,
        overlaid(one.grey, one.heat, one.tumour, through=one.result.peak, top=top),
        overlaid(one.grey, one.heat, one.tumour, through=(z, y, x), top=top),
        overlaid(one.grey, one.random, one.tumour, through=one.result.peak, top=other),
    )


def _neighbour(frozen: FrozenModel, one: NeighbourResult) -> ShownNeighbour:
    name = frozen.names.get(one.case)
    sequences = frozen.study.sequences
    picture = thumbnail(frozen.store, one.case, sequences[0].name) if sequences else None
    return ShownNeighbour(one, name.local if name else "", picture)
