"""The checklists of a pack: which of their keys this run shows, and where; checked against the files as written.

where = shown(results, study, folder)            # {Key.FLOW: "report.html#flow", ...}
write_checklists(results, study, folder)         # checklists/*.md and *.json
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fedloupe.study import Declared, LabelSheet, Study
from fedloupe_server.evidence import wording
from fedloupe_server.evidence.assessed import CohortTable
from fedloupe_server.evidence.checklists import NAMES, Condition, Key, fill, load, markdown, to_json
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation.journal import write_atomic

K = Key
OUTCOME_AFTER = "interval imaging_to_outcome"
"""Line of Table 1 with the days from images to outcome."""
ACQUISITION = frozenset({"acquisition vendor", "acquisition field strength", "acquisition voxel", "acquisition TR"})
"""Lines of Table 1 that together say how images were made."""


def write_checklists(results: Results, study: Study, folder: Path) -> None:
    """Write every checklist as Markdown and JSON into `folder/checklists`; the rest of the pack is there already."""
    evidence, applies = shown(results, study, folder), conditions(results, study)
    for name in NAMES:
        filled = fill(load(name), evidence, applies)
        write_atomic(folder / "checklists" / f"{name}.md", markdown(filled, base="../").encode())
        write_atomic(folder / "checklists" / f"{name}.json", to_json(filled).encode())


def conditions(results: Results, study: Study) -> frozenset[Condition]:
    """METRICS' conditions that the study fulfils."""
    found: dict[Condition, bool] = {
        "segmentation": bool(study.sequences),
        "automated-segmentation": any(site.drawn for site in results.sites),
        "hand-crafted": study.radiomics.source != "none",
        "tabular": study.radiomics.source != "none" or bool(study.clinical),
        "end-to-end": study.model.image and bool(study.sequences),
    }
    return frozenset(name for name, there in found.items() if there)


def shown(results: Results, study: Study, folder: Path) -> dict[Key, str]:
    """What this run's pack shows, and where: what the run holds, at an anchor that is in the file."""
    content = dict(_declared(study)) | dict(_protocol(study)) | dict(_report(results, study))
    content |= {key: True for key in (K.FILES, K.INPUT, K.EXAMPLE, K.SOFTWARE, K.SEAL, K.NUMBERS, K.UNREPEATABLE)}
    content[K.USE] = bool(_words(study).use)
    content[K.RUNNING] = results.predicted is not None
    content[K.ENGINE] = study.radiomics.source == "computed"
    places = {key: key.home for key, there in content.items() if there}
    places |= {K.NUMBERS: "README.md#numbers"} if K.NUMBERS in places else {}
    return {key: where for key, where in places.items() if anchored(folder, where)}


def anchored(folder: Path, where: str) -> bool:
    """Whether the file is in the pack, and the anchor, if one is named, in the file."""
    name, _, anchor = where.partition("#")
    path = folder / name
    if not path.is_file():
        return False
    if not anchor:
        return True
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return f'id="{anchor}"' in text
    return anchor in {slug(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}


def slug(heading: str) -> str:
    """The anchor that a Markdown heading gets: small letters, `-` for spaces, nothing else."""
    return re.sub(r"[^\w-]", "", heading.strip().lower().replace(" ", "-"))


def _declared(study: Study) -> Iterator[tuple[Key, bool]]:
    """What only people know, where they put it into the study before it was approved."""
    words = _words(study)
    labels = study.evidence.labels if study.evidence else None
    sheet = labels or LabelSheet(assessor="")
    yield from (
        (K.ELIGIBILITY, bool(words.eligibility)),
        (K.TREATMENT, bool(words.treatment)),
        (K.DESIGN, bool(words.design)),
        (K.SETTING, bool(words.setting)),
        (K.SOURCE, bool(words.source)),
        (K.ACCRUAL, bool(words.accrual)),
        (K.CONTOURS, bool(words.contours)),
        (K.OPERATORS, bool(words.operators)),
        (K.ONE_READER, bool(words.one_reader)),
        (K.ASSESSOR, bool(sheet.assessor)),
        (K.BLINDING, sheet.blinded is not None),
        (K.HISTOLOGY, bool(sheet.histology)),
    )


def _known(table: CohortTable, variable: str) -> bool:
    return any(line.variable == variable and line.patients > 0 for line in table.lines)


def _words(study: Study) -> Declared:
    return (study.evidence and study.evidence.declared) or Declared()


def _protocol(study: Study) -> Iterator[tuple[Key, bool]]:
    """What the approved study says of itself."""
    always = (K.QUESTION, K.DIVISION, K.ABSENCES, K.TRAINING, K.IMBALANCE)
    yield from ((key, True) for key in always)
    yield K.OUTCOME, bool(study.evidence and study.evidence.labels and study.evidence.labels.interval)
    images = bool(study.sequences)
    yield K.PREDICTORS, images
    yield K.SETTINGS, study.radiomics.source == "computed"
    yield K.STEPS, images
    yield K.DEIDENTIFIED, images
    yield K.PLAN, study.evidence is not None
    yield K.SIZE, bool(_words(study).sample_size)


def _report(results: Results, study: Study) -> Iterator[tuple[Key, bool]]:
    """What the run found out."""
    sites = results.sites
    assessed = [site.assessed for site in sites if site.assessed]
    every = len(assessed) == len(sites)
    tables = [site.cohort for site in sites if site.cohort]
    lines = [line for table in tables for line in table.lines]
    described = len(tables) == len(sites)
    scanners = {line.variable for line in lines}
    external = bool(wording.validating(results))
    variables = {one.variable for told in assessed for one in told.subgroups}
    subgroups = len(variables) > 1
    yield from ((key, True) for key in (K.SITES, K.MODEL, K.DISCRIMINATION, K.OPERATING))
    trained = any(site.role == "train" for site in sites)
    yield from ((key, trained) for key in (K.SPLITS, K.INTERNAL))
    yield K.PRECISION, True
    yield K.MULTICENTRE, len(sites) > 1 and bool(study.sequences)
    yield K.FLOW, described
    yield K.TABLE_1, described and bool(study.clinical or (study.evidence and study.evidence.subgroups))
    yield K.MISSING, described
    yield K.LABELS, described
    yield K.INTERVAL, described and all(_known(table, OUTCOME_AFTER) for table in tables)
    yield K.ACQUISITION, described and scanners.issuperset(ACQUISITION)
    yield K.DEVELOPMENT, described
    yield K.FEATURES, results.quality is not None
    yield K.STABILITY, results.quality is not None and bool(study.quality and study.quality.perturbations)
    yield K.REDUNDANCY, results.features > 0
    yield K.CALIBRATION, every and all(one.in_the_large is not None for one in assessed)
    yield K.RECALIBRATION, any(one.recalibration for one in assessed)
    yield K.DECISION, results.evidence is not None
    yield K.HETEROGENEITY, results.pooled is not None and results.pooled.prediction_low is not None
    yield K.SUBGROUPS, subgroups
    yield (
        K.FAIRNESS,
        subgroups and bool(study.evidence and study.evidence.declared and study.evidence.declared.fairness),
    )
    yield K.EXTERNAL, external
    yield K.BASELINES, any(site.logistic or site.baselines for site in sites)
    yield K.CLINICAL, any("clinical" in site.baselines for site in sites)
    yield K.PAIRED, any(one.paired for one in assessed)
    yield K.LEFT_OUT, bool(results.left_out)
    yield K.SCANNERS, True
    yield K.HARMONISED, results.harmonised is not None or study.training.random_intercept is not None
    yield K.LOSS, any(record.loss is not None for record in results.rounds)
