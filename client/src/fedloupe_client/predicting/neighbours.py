"""Which of this hospital's own patients are most alike, as the released model measures it; it stays here.

embedded = embed_cohort(frozen)                     # once; kept in home/models/<study>-embedded.safetensors
for one in nearest(frozen, embedded, patient): one.case, one.label, one.distance

Two patients' distance is Mahalanobis in the range vector, with the release's precision, a dimension. The file holds
pseudonyms, outcomes and embeddings: it is as confidential as the store.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedloupe.metrics.conformal import distance
from fedloupe.models import range_vector
from fedloupe_client.dataset import Cohort, cohort_digest, derivation, derive, derived_path, load_cases, load_cohort
from fedloupe_client.gate.disk import write_atomic
from fedloupe_client.kept import FOLDER
from fedloupe_client.predicting.inputs import FrozenModel, Patient
from fedloupe_client.predicting.problems import PredictionUnwritable

NEIGHBOURS = 5
BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """The site's patients with known outcome, as the released model sees them.

    Attributes:
        key: digest of all that decides the numbers.
        same_data: whether these are the data of the run: only then is it certain who trained. None where the site
            keeps nothing of the run.
        cases, patients: (n) pseudonyms.
        labels: (n) 0 or 1.
        split: (n) `train`, `tune` or `test`.
        vectors: (n, d) range vectors.
        logits: (n).
    """

    key: str
    same_data: bool | None
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    labels: NDArray[np.int64]
    split: tuple[str, ...]
    vectors: NDArray[np.float64]
    logits: NDArray[np.float64]

    def use_of(self, patient: str) -> str | None:
        """What a patient's cases were used for, the weightiest of them; None for one who was not in the cohort."""
        uses = {use for owner, use in zip(self.patients, self.split, strict=True) if owner == patient}
        return next((use for use in ("train", "tune", "test") if use in uses), None)


@dataclass(frozen=True)
class Neighbour:
    """One patient of the site; `probability` is the released model's, calibrated."""

    case: str
    label: int
    split: str
    distance: float
    probability: float


def embed_cohort(frozen: FrozenModel) -> Embedded:
    """All ready cases through the released model, from the file of an earlier command where nothing has changed.

    A file that is absent, of another state, or damaged is made anew.

    Raises:
        OneClass, BatchUnknown: see `load_cohort`.
        PredictionUnwritable: see there.
    """
    key, path = _key(frozen), frozen.home / FOLDER / f"{frozen.study.study}-embedded.safetensors"
    found = _read(path)
    if found is None or found.key != key:
        found = _embed(frozen, key)
        try:
            write_atomic(path, _to_bytes(found))
        except OSError as error:
            raise PredictionUnwritable(
                f"writing failed: {error.strerror or error}",
                where=str(path),
                remedy="check that the home folder may be written and its disk has room",
            ) from None
    return found


def nearest(frozen: FrozenModel, embedded: Embedded, patient: Patient, count: int = NEIGHBOURS) -> list[Neighbour]:
    """The nearest patients, the patient's own cases left out; equal distances in order of the pseudonyms."""
    with torch.no_grad():
        vector = range_vector(frozen.model, patient.inputs)[0].double().numpy()
    apart = distance(embedded.vectors, vector, frozen.release.precision)
    own = np.array([one == patient.record.patient for one in embedded.patients], np.bool_)
    apart = np.where(own, np.inf, apart)
    order = np.argsort(apart, kind="stable")[: min(count, int((~own).sum()))]
    probability = frozen.release.probability(embedded.logits)
    return [
        Neighbour(
            embedded.cases[row],
            int(embedded.labels[row]),
            embedded.split[row],
            float(apart[row]),
            float(probability[row]),
        )
        for row in order
    ]


def _embed(frozen: FrozenModel, key: str) -> Embedded:
    derive(frozen.home, frozen.study)
    measured = load_cohort(frozen.home, frozen.study, frozen.site)
    cohort = frozen.seen(_harmonisable(frozen, measured))
    owner = {record.case: record.patient for record in frozen.store.ready}
    vectors, logits = [np.zeros((0, len(frozen.release.centre)))], [np.zeros(0)]
    with torch.no_grad():
        for start in range(0, len(cohort.cases), BATCH):
            rows = np.arange(start, min(start + BATCH, len(cohort.cases)))
            inputs = cohort.inputs(frozen.preparation, rows)
            vectors.append(range_vector(frozen.model, inputs).double().numpy())
            logits.append(frozen.model(*inputs.tensors).double().numpy())
    before = frozen.home / "runs" / frozen.release.run / "data.sha256"
    known = before.read_text() if before.exists() else ""  # empty: a crash left it
    same = known == cohort_digest(frozen.home, measured) if known else None
    return Embedded(
        key=key,
        same_data=same,
        cases=cohort.cases,
        patients=tuple(owner[case] for case in cohort.cases),
        labels=cohort.labels,
        split=tuple(str(one) for one in cohort.split),
        vectors=np.concatenate(vectors),
        logits=np.concatenate(logits),
    )


def _harmonisable(frozen: FrozenModel, cohort: Cohort) -> Cohort:
    """Without patients of scanners that took no part in the run: on no common scale, they are nobody's neighbours."""
    if frozen.harmonised is None or set(cohort.batches) <= set(frozen.harmonised.shifts):
        return cohort
    rows = [row for row, batch in enumerate(cohort.batches) if batch in frozen.harmonised.shifts]
    by_case = {record.case: record for record in frozen.store.ready}
    records = tuple(by_case[cohort.cases[row]] for row in rows)
    return load_cases(frozen.home, frozen.study, records, cohort.split[rows])


def _key(frozen: FrozenModel) -> str:
    """Digest of the model, the study, the code that derives, every stored image or feature, and every outcome."""
    state = hashlib.sha256(f"{frozen.digest} {frozen.study.fingerprint} {derivation(frozen.study)}".encode())
    state.update((frozen.store.folder / "index.json").read_bytes())
    if frozen.harmonised is not None:
        state.update(frozen.harmonised.to_bytes())
    if frozen.study.sequences:
        for record in frozen.store.ready:
            state.update(derived_path(Path(), frozen.store, record.case).name.encode())
    elif (table := frozen.store.folder / "features.csv").exists():
        state.update(table.read_bytes())
    return state.hexdigest()


def _to_bytes(embedded: Embedded) -> bytes:
    words = {
        "key": embedded.key,
        "same_data": embedded.same_data,
        "cases": embedded.cases,
        "patients": embedded.patients,
        "split": embedded.split,
    }
    arrays = {"labels": embedded.labels, "vectors": embedded.vectors, "logits": embedded.logits}
    return save(arrays, metadata={"embedded": json.dumps(words)})


def _read(path: Path) -> Embedded | None:
    try:
        with safe_open(str(path), framework="numpy") as file:
            words = json.loads((file.metadata() or {})["embedded"])
            arrays = {name: file.get_tensor(name) for name in ("labels", "vectors", "logits")}
        return Embedded(
            key=str(words["key"]),
            same_data=words["same_data"],
            cases=tuple(words["cases"]),
            patients=tuple(words["patients"]),
            split=tuple(words["split"]),
            **arrays,
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None  # it is made anew: nothing is lost but seconds
