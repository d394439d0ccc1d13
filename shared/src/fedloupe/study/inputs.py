"""Which of a study's inputs its model sees: all, or those that `model.inputs` names.

model: {inputs: [radiomics-ct, image-ct, clinical]}      # in a study's YAML: nothing of the MR
sees(study, "clinical")                                  # True
sees_group(study, "t2w|rim_5mm")                         # False: a feature group of the MR

What is derived from a site's images does not depend on it, so studies that differ in it alone share that work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fedloupe.features import sequences_of

if TYPE_CHECKING:
    from fedloupe.study.protocol import ClinicalVariable, Study

InputKind = Literal["radiomics-mr", "radiomics-ct", "radiomics-table", "image-mr", "image-ct", "clinical"]


def input_kinds(study: Study) -> tuple[InputKind, ...]:
    """The kinds that the study could feed its model, in one fixed order."""
    modalities = {sequence.modality for sequence in study.sequences}
    computed = study.radiomics.source == "computed"
    found: dict[InputKind, bool] = {
        "radiomics-mr": computed and "MR" in modalities,
        "radiomics-ct": computed and "CT" in modalities,
        "radiomics-table": study.radiomics.source == "table",
        "image-mr": study.model.image and "MR" in modalities,
        "image-ct": study.model.image and "CT" in modalities,
        "clinical": bool(study.clinical),
    }
    return tuple(kind for kind, there in found.items() if there)


def sees(study: Study, kind: InputKind) -> bool:
    """Whether the model sees this kind; one that the study lacks is seen where nothing is left out."""
    return study.model.inputs is None or kind in study.model.inputs


def sees_group(study: Study, group: str) -> bool:
    """Whether the model sees a feature group, named as in `fedloupe.features.FeatureTable`.

    `shape` belongs to the MR, on which the mask is drawn; a difference is seen where both its sequences are.
    """
    if group == "table":
        return sees(study, "radiomics-table")
    modality = {sequence.name: sequence.modality for sequence in study.sequences}
    modalities = {modality[name] for name in sequences_of(group)} or {"MR"}
    return all(sees(study, "radiomics-ct" if found == "CT" else "radiomics-mr") for found in modalities)


def clinical_inputs(study: Study) -> tuple[ClinicalVariable, ...]:
    """The clinical variables that the model sees."""
    return study.clinical if sees(study, "clinical") else ()


def misfit(study: Study) -> str | None:
    """Why the study cannot have its `model.inputs`, or None."""
    if study.model.inputs is None:
        return None
    wanted, known = study.model.inputs, input_kinds(study)
    unknown = [kind for kind in wanted if kind not in known]
    features, clinical = any(kind.startswith("radiomics") for kind in wanted), "clinical" in wanted
    rules = study.harmonisation
    reasons = {
        "`model.inputs` names a kind more than once": len(set(wanted)) < len(wanted),
        f"`model.inputs` names {unknown}, of which the study has only {list(known)}": bool(unknown),
        "`model.inputs` is for a study with neither `segmentation` nor `quality`": bool(
            study.segmentation or study.quality
        ),
        "`model.inputs` leaves out what `harmonisation` needs: features, and `clinical` for its covariates": (
            rules is not None and not (features and (clinical or not rules.covariates))
        ),
        "`evaluation.clinical_baseline` needs `clinical` among `model.inputs`": (
            study.evaluation.clinical_baseline and not clinical
        ),
        "`evaluation.trees` needs features or `clinical` among `model.inputs`": (
            study.evaluation.trees is not None and not (features or clinical)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
