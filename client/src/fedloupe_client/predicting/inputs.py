"""The released model and one patient as it sees him, by the code that made the training data.

frozen = open_model(home, study)                    # once a command
patient = read_patient(frozen, find_case(frozen, "0123456789abcdef"))
patient.inputs                                      # one row
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedloupe.models import Inputs, Preparation, RadiomicsModel, Schema, build_model, group_order, unflatten
from fedloupe.release import Release
from fedloupe.study import Prediction, Study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import Cohort, derivation, derive, derived_path, load_cases
from fedloupe_client.gate.approvals import approved_study
from fedloupe_client.harmonising import Harmonised, shifted
from fedloupe_client.ingest import CaseRecord, Store, load_store
from fedloupe_client.kept import release_path, shifts_path
from fedloupe_client.predicting.problems import (
    BatchUnharmonised,
    CaseUnknown,
    CaseUnusable,
    NoRelease,
    NotPredicting,
    ReleaseMisfit,
    ReleaseOther,
)
from fedloupe_client.preflight.local import LocalName, local_names


@dataclass(frozen=True)
class FrozenModel:
    """What all predictions of one command share.

    Attributes:
        home, site: of the hospital.
        study: as approved; `rules` is its section.
        release: as received; `digest` is the SHA-256 of its file.
        preparation: the release's.
        harmonised: the site's own shifts of the run, where the study harmonises.
        model: with the released weights, on the CPU, not training.
        columns: group of each of the p feature columns.
        store: the site's cases; `names` what the hospital calls them.
    """

    home: Path
    site: str
    study: Study
    rules: Prediction
    release: Release
    digest: str
    preparation: Preparation
    harmonised: Harmonised | None
    model: RadiomicsModel
    columns: tuple[str, ...]
    store: Store
    names: dict[str, LocalName]

    @property
    def groups(self) -> tuple[str, ...]:
        """Feature groups in column order."""
        return group_order(self.columns)

    def seen(self, cohort: Cohort) -> Cohort:
        """The patients with features harmonised as in the run; as measured where the study does not harmonise."""
        return cohort if self.harmonised is None else self.harmonised.apply(self.study, cohort)


@dataclass(frozen=True)
class Patient:
    """One case: its record, its row (features harmonised), and that row as the model sees it."""

    record: CaseRecord
    cohort: Cohort
    inputs: Inputs


def open_model(home: Path, study: Study) -> FrozenModel:
    """The released model of an approved study, checked against the site's features.

    Raises:
        NotPredicting, NoRelease, ReleaseOther, ReleaseMisfit, BatchUnharmonised: see there.
        StudyNotApproved, ApprovalDamaged, ReleaseDamaged, HarmonisedDamaged, StoreMissing, StoreUnreadable: likewise.
    """
    site = load_site(home).site
    if study.prediction is None:
        raise NotPredicting(
            f"`{study.study}` does not release its model to the sites",
            where=study.study,
            remedy="ask the coordinator for a study with the section `prediction`",
        )
    study = approved_study(home, study.fingerprint)
    path = release_path(home, study)
    if not path.exists():
        raise NoRelease(
            "no frozen model of the study has arrived",
            where=str(path),
            remedy="wait until the coordinator's run has ended: it sends the model to every site",
        )
    release = Release.read(path)
    if release.fingerprint != study.fingerprint:
        raise ReleaseOther(
            f"the model is of study {release.fingerprint[:12]}, the given one is {study.fingerprint[:12]}",
            where=str(path),
            remedy="give the study file that the model was trained under, or let the coordinator send the model again",
        )
    columns = load_cases(home, study, (), np.zeros(0, np.str_)).columns
    return FrozenModel(
        home=home,
        site=site,
        study=study,
        rules=study.prediction or Prediction(),
        release=release,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        preparation=Preparation(release.mean, release.scale, release.projection, "federated"),
        harmonised=_harmonised(home, study, site, release),
        model=_model(study, release, columns, str(path)),
        columns=columns,
        store=load_store(home),
        names=local_names(home),
    )


def find_case(frozen: FrozenModel, name: str) -> CaseRecord:
    """The case with this pseudonym, or with this name of the hospital's own.

    Raises:
        CaseUnknown: no case of the store has it. Other cases' names are not shown: they are other patients'.
        CaseUnusable: the case was left out by ingest for more than a missing outcome.
    """
    for record in frozen.store.records:
        local = frozen.names.get(record.case)
        if name == record.case or (local is not None and name == local.local):
            if record.status != "ready" and record not in frozen.store.unlabelled:
                raise CaseUnusable(
                    f"ingest left it out ({record.code}): {'; '.join((record.reason, *record.notes))}",
                    where=f"case {record.case}",
                    remedy="mend that (ingest-local.csv says where it lies), then run `fedloupe-site ingest` again",
                )
            return record
    raise CaseUnknown(
        "no case of the store has this name or pseudonym",
        where=name,
        remedy="add its row and images to the site's data and run `fedloupe-site ingest`; names and pseudonyms stand "
        "in ingest-local.csv in the site's home",
    )


def read_patient(frozen: FrozenModel, record: CaseRecord) -> Patient:
    """One case as the model sees it; imaging and radiomics are done now if they were not.

    Raises:
        CaseUnusable: imaging or radiomics cannot use it.
        BatchUnharmonised: its scanner took no part in the run.
    """
    derive(frozen.home, frozen.study, cases=[record.case])
    if frozen.study.sequences:
        path = derived_path(frozen.home / "derived" / derivation(frozen.study), frozen.store, record.case)
        if (note := path.with_suffix(".json")).exists():
            raise CaseUnusable(
                f"imaging or radiomics could not use it ({json.loads(note.read_text())['code']})",
                where=f"case {record.case}",
                remedy="run `fedloupe-site check`: its page says what to mend",
            )
    measured = load_cases(frozen.home, frozen.study, (record,), np.array(["new"]))
    if frozen.harmonised is not None and (unknown := set(measured.batches) - set(frozen.harmonised.shifts)):
        raise BatchUnharmonised(
            f"batch `{unknown.pop()}` took no part in the run",
            where=f"case {record.case}",
            remedy="its features cannot be brought to the others' scale; the coordinator must run the study again",
        )
    cohort = frozen.seen(measured)
    return Patient(record, cohort, cohort.inputs(frozen.preparation, np.arange(1)))


def _harmonised(home: Path, study: Study, site: str, release: Release) -> Harmonised | None:
    if not shifted(study, site):
        return None
    path = shifts_path(home, study)
    found = Harmonised.read(path)
    if found is None or hashlib.sha256(path.read_bytes()).hexdigest() != release.shifts:
        raise BatchUnharmonised(
            "the site's own shifts of the run are not there, or are another run's",
            where=str(path),
            remedy="let the coordinator send the model again: the site keeps them beside it",
        )
    return found


def _model(study: Study, release: Release, columns: tuple[str, ...], where: str) -> RadiomicsModel:
    schema = Schema.of(study, group_order(columns))
    model = build_model(study, schema)
    dimensions = study.model.width + len(schema.groups) * schema.components + schema.clinical
    found = (
        release.weights.shape,
        release.centre.shape,
        release.precision.shape,
        release.mean.shape,
        release.scale.shape,
        release.projection.shape,
        release.line.shape,
    )
    p = len(columns)
    wanted = (
        (sum(parameter.numel() for parameter in model.parameters()),),
        (dimensions,),
        (dimensions, dimensions),
        (p,),
        (p,),
        (p, schema.components),
        (2,),
    )
    if found != wanted:
        raise ReleaseMisfit(
            f"arrays of shape {found} arrived, this site needs {wanted}",
            where=where,
            remedy="run the same FedLoupe version everywhere and bring the same feature columns, then let the "
            "coordinator send the model again",
        )
    unflatten(model, release.weights)
    return model.eval()
