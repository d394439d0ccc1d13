"""A site's patients in memory: features, clinical values, crops, labels and splits; never leaves the site process."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from fedloupe.errors import FedLoupeError
from fedloupe.features import FeatureSettings, feature_table
from fedloupe.models import Inputs, Preparation, Schema, group_order
from fedloupe.study import InputKind, Study, sees, sees_group
from fedloupe.study.levels import named_levels
from fedloupe_client.dataset.derive import derivation, derived_path, problems
from fedloupe_client.dataset.splits import split_cases
from fedloupe_client.ingest import CaseRecord, load_store
from fedloupe_client.ingest.identity.pseudonyms import site_key

IMAGES: tuple[InputKind, InputKind] = ("image-mr", "image-ct")


class GroupsUnknown(FedLoupeError):
    """The study judges subgroups or grades that the site's store does not hold as the study declares them."""

    code = "FL-669"
    title = "subgroups or grades of the site's cases are not in its store"


class BatchUnknown(FedLoupeError):
    """The study harmonises by a column that the site's store does not hold."""

    code = "FL-615"
    title = "the scanner or protocol of the site's cases is not in its store"


@dataclass(frozen=True)
class Cohort:
    """n ready patients of one site.

    Attributes:
        cases: pseudonymous case ids, sorted.
        labels: (n) 0 or 1.
        split: (n) `train`, `tune` or `test`.
        names: p feature columns; `columns` their groups.
        features: (n, p) float64, NaN where missing.
        clinical: (n, V) centred and scaled, NaN where missing.
        mr: (n, M, D, H, W) float32; `ct` likewise; M or T is 0 without image tokens.
        mr_present: (n, M); `ct_present` likewise.
        reference: (n) true probability in synthetic studies, else None.
        masks: (n, D, H, W) uint8, the sites' own, in a drawing study, else None.
        batches: (n) scanner or protocol in a study that harmonises; all alike where the hospital is the batch.
        groups: name of a subgroup variable to the level of each patient, empty where unknown; n each.
        grades: (n) of the outcome as the site grades it, empty where unknown; () in a study without `evidence`.
    """

    cases: tuple[str, ...]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    features: NDArray[np.float64]
    clinical: NDArray[np.float64]
    mr: NDArray[np.float32]
    mr_present: NDArray[np.float32]
    ct: NDArray[np.float32]
    ct_present: NDArray[np.float32]
    reference: NDArray[np.float64] | None
    masks: NDArray[np.uint8] | None = None
    batches: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grades: tuple[str, ...] = ()

    @property
    def feature_groups(self) -> tuple[str, ...]:
        """Feature groups in column order."""
        return group_order(self.columns)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of the patients of a split; `all` for everyone."""
        return np.flatnonzero((self.split == split) | (split == "all")).astype(np.int64)

    def inputs(self, preparation: Preparation, rows: NDArray[np.int64]) -> Inputs:
        """What a model sees of these patients."""
        components, present = preparation.apply(self.features[rows], self.columns)
        clinical = self.clinical[rows]
        arrays = (
            components,
            present,
            np.nan_to_num(clinical),
            np.isfinite(clinical),
            self.mr[rows],
            self.mr_present[rows],
            self.ct[rows],
            self.ct_present[rows],
        )
        return Inputs(*(torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in arrays))

    def digest(self, secret: bytes) -> str:
        """Keyed SHA-256 of features, labels and splits: shows that data did not change, tells nothing else."""
        state = hmac.new(secret, digestmod=hashlib.sha256)
        arrays = [self.features, self.labels, self.split.astype("U5"), self.clinical, self.mr, self.ct]
        for array in arrays if self.masks is None else [*arrays, self.masks]:
            state.update(np.ascontiguousarray(array).tobytes())
        if any(self.batches):
            state.update("\n".join(self.batches).encode())
        for name, levels in (*sorted(self.groups.items()), ("", self.grades)):
            if any(levels):
                state.update("\n".join((name, *levels)).encode())
        return state.hexdigest()


def load_cohort(home: Path, study: Study, site: str) -> Cohort:
    """Stack the ready cases of a derived study: of each what the study's model sees (`model.inputs`), nothing else.

    Raises:
        OneClass: see `split_cases`.
        BatchUnknown: the cases were ingested for a study that did not ask for the scanner.
        GroupsUnknown: they were ingested before the study declared its subgroups, or for others.
    """
    left_out = problems(home, study)
    records = tuple(record for record in load_store(home).ready if record.case not in left_out)
    labels = [int(record.label or 0) for record in records]
    split = split_cases(study, site, tuple(record.case for record in records), labels)
    return load_cases(home, study, records, split)


def load_cases(home: Path, study: Study, records: tuple[CaseRecord, ...], split: NDArray[np.str_]) -> Cohort:
    """Stack these cases of a derived study, each usable, as `load_cohort`; where an outcome is not known, label -1.

    Args:
        home: the site's home.
        study: derived for these cases.
        records: in the order of the rows.
        split: (n) of each.

    Raises:
        BatchUnknown: the cases were ingested for a study that did not ask for the scanner.
        GroupsUnknown: they were ingested before the study declared its subgroups, or for others.
    """
    cases = tuple(r.case for r in records)
    labels = np.array([-1 if r.label is None else r.label for r in records], dtype=np.int64)
    names, columns, features = _features(home, study, cases)
    mr, mr_present, ct, ct_present = _images(home, study, cases)
    reference = np.array([r.reference for r in records], dtype=np.float64) if study.evaluation.reference_score else None
    whole = Cohort(
        cases=cases,
        labels=labels,
        split=split,
        names=names,
        columns=columns,
        features=features,
        clinical=_clinical(study, records),
        mr=mr,
        mr_present=mr_present,
        ct=ct,
        ct_present=ct_present,
        reference=reference,
        masks=_masks(home, study, cases),
        batches=_batches(study, records),
        groups=_groups(study, records),
        grades=() if study.evidence is None else tuple(r.grade or "" for r in records),
    )
    return _visible(study, whole)


def seen_by(study: Study, site: str, whole: Cohort) -> Cohort:
    """The patients as this study splits them, with what its model sees of what is there, and nothing else.

    Args:
        study: one that differs from the one that `whole` was loaded for in its seed, `split`, roles of sites and
            `model.inputs` at most.
        site: whose patients they are.
        whole: with every input that the study has.

    Raises:
        OneClass: see `split_cases`.
    """
    split = split_cases(study, site, whole.cases, [int(v) for v in whole.labels])
    return replace(_visible(study, whole), split=split)


def _visible(study: Study, whole: Cohort) -> Cohort:
    """Without what the study's model does not see."""
    columns = np.flatnonzero([sees_group(study, group) for group in whole.columns])
    clinical = slice(None) if sees(study, "clinical") else slice(0)
    mr, ct = (slice(None) if sees(study, kind) else slice(0) for kind in IMAGES)
    return replace(
        whole,
        names=tuple(whole.names[i] for i in columns),
        columns=tuple(whole.columns[i] for i in columns),
        features=whole.features if len(columns) == len(whole.columns) else whole.features[:, columns],
        clinical=whole.clinical[:, clinical],
        mr=whole.mr[:, mr],
        mr_present=whole.mr_present[:, mr],
        ct=whole.ct[:, ct],
        ct_present=whole.ct_present[:, ct],
    )


def cohort_digest(home: Path, cohort: Cohort) -> str:
    """`Cohort.digest` under the site's secret."""
    return cohort.digest(site_key(home))


def _clinical(study: Study, records: tuple[CaseRecord, ...]) -> NDArray[np.float64]:
    values = np.full((len(records), len(study.clinical)), np.nan)
    for row, record in enumerate(records):
        for column, variable in enumerate(study.clinical):
            value = record.clinical.get(variable.name)
            if value is not None:
                values[row, column] = (value - variable.centre) / variable.scale
    return values


def _batches(study: Study, records: tuple[CaseRecord, ...]) -> tuple[str, ...]:
    if study.harmonisation is None:
        return ()
    if study.harmonisation.batch is None:
        return ("",) * len(records)
    if any(record.batch is None for record in records):
        raise BatchUnknown(
            f"the store does not hold the column `{study.harmonisation.batch}`",
            where=study.study,
            remedy="run `fedloupe-site ingest` again with this study",
        )
    return tuple(record.batch or "" for record in records)


def _groups(study: Study, records: tuple[CaseRecord, ...]) -> dict[str, tuple[str, ...]]:
    """Levels by variable, empty where unknown; of a store that was made for this section of the study."""
    if study.evidence is None:
        return {}
    where, remedy = study.study, "run `fedloupe-site ingest` again with this study"
    if any(r.label is not None and r.grade is None for r in records):
        raise GroupsUnknown("the store does not hold the grades of outcomes", where=where, remedy=remedy)
    found = {}
    for group in study.evidence.subgroups:
        if any(group.name not in r.groups for r in records):
            raise GroupsUnknown(f"the store does not hold the subgroups by `{group.name}`", where=where, remedy=remedy)
        found[group.name] = tuple(r.groups[group.name] or "" for r in records)
        if (named := named_levels(group)) and not set(found[group.name]) <= {*named, ""}:
            raise GroupsUnknown(f"the store holds other levels of `{group.name}`", where=where, remedy=remedy)
    return found


def _features(
    home: Path, study: Study, cases: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    if study.radiomics.source == "none":
        return (), (), np.zeros((len(cases), 0))
    if study.radiomics.source == "table":
        table = load_store(home).features()
        names = tuple(sorted(str(c) for c in table.columns))
        values = table.loc[list(cases), list(names)].to_numpy(dtype=np.float64)
        return names, ("table",) * len(names), values
    settings = FeatureSettings.model_validate(study.radiomics.settings)
    layout = feature_table(settings, [s.name for s in study.sequences])
    folder = home / "derived" / derivation(study)
    store = load_store(home)
    rows = [load_file(derived_path(folder, store, case))["features"] for case in cases]
    values = np.stack(rows) if rows else np.zeros((0, len(layout.names)))
    return layout.names, layout.groups, values


def _images(
    home: Path, study: Study, cases: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    edge = Schema.of(study, ()).crop
    modality = np.array([s.modality for s in study.sequences])
    if not (study.model.image and study.sequences) or not cases:
        empty, none = np.zeros((len(cases), 0, edge, edge, edge), np.float32), np.zeros((len(cases), 0), np.float32)
        return empty, none, empty, none
    folder = home / "derived" / derivation(study)
    store = load_store(home)
    loaded = [load_file(derived_path(folder, store, case)) for case in cases]
    images = np.stack([item["images"] for item in loaded]).astype(np.float32)
    present = np.stack([item["present"] for item in loaded]).astype(np.float32)
    mr, ct = modality == "MR", modality == "CT"
    return images[:, mr], present[:, mr], images[:, ct], present[:, ct]


def _masks(home: Path, study: Study, cases: tuple[str, ...]) -> NDArray[np.uint8] | None:
    if study.segmentation is None:
        return None
    folder, store = home / "derived" / derivation(study), load_store(home)
    edge = study.segmentation.edge(study.imaging.spacing_mm)
    masks = [load_file(derived_path(folder, store, case))["mask"] for case in cases]
    return np.stack(masks).astype(np.uint8) if masks else np.zeros((0, edge, edge, edge), np.uint8)
