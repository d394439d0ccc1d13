"""The variants of a study that a comparison runs: other seeds, architectures, folds, roles or inputs, and nothing else.

plan = Plan(seeds=(1, 2, 3), architectures=("transformer", "cnn"), design="split")
variants(study, plan)                    # each with the name of its folder and its own study
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

from fedloupe.errors import FedLoupeError
from fedloupe.models import Schema
from fedloupe.study import InputKind, Model, Study, StudyInvalid, input_kinds, parse_study
from fedloupe_server.comparing.record import Design

ARCHITECTURES: tuple[str, ...] = tuple(
    name for name in get_args(Model.model_fields["architecture"].annotation) if name != "logistic"
)
"""Those with a deep part; logistic regression is a baseline of every comparison."""
DESIGNS: tuple[Design, ...] = get_args(Design)
REFERENCE = "transformer"
MANY = 100
"""A single number up to this is how many seeds; one certain seed is written with a comma, `7,`."""
INPUT_SETS: dict[str, tuple[InputKind, ...]] = {
    "MRI+CT": ("radiomics-mr", "image-mr", "radiomics-ct", "image-ct", "radiomics-table", "clinical"),
    "MRI": ("radiomics-mr", "image-mr", "clinical"),
    "CT": ("radiomics-ct", "image-ct", "clinical"),
    "radiomics": ("radiomics-mr", "radiomics-ct", "radiomics-table"),
    "images": ("image-mr", "image-ct"),
    "clinical": ("clinical",),
}
"""The first is all that a study has; the first three keep clinical values, the others stand alone."""


class NotCompared(FedLoupeError):
    """The study is not one that a comparison can be made of."""

    code = "FL-712"
    title = "the study cannot be compared"


class PlanInvalid(FedLoupeError):
    """What was asked of a comparison is not possible with this study."""

    code = "FL-713"
    title = "the comparison asked for is not possible"


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        seeds: of splits, initial weights and training.
        architectures: to compare, the reference first or not; those the study can form where empty.
        design: how patients are tested; None: `split` where the study has validate-only sites, else leaving one out.
        folds: of `kfold`.
        modalities: compare sets of inputs under the study's own architecture instead.
    """

    seeds: tuple[int, ...] = (1, 2, 3)
    architectures: tuple[str, ...] = ()
    design: Design | None = None
    folds: int = 5
    modalities: bool = False


@dataclass(frozen=True)
class Variant:
    """One run of a comparison: its folder's name, its group, seed and held-out part, and its study."""

    name: str
    group: str
    seed: int
    part: str
    study: Study
    pooled: bool


def plan_of(study: Study, *, seeds: str, architectures: str, design: str | None, folds: int, modalities: bool) -> Plan:
    """A plan from what was typed.

    Args:
        study: its seed is the first where `seeds` says how many.
        seeds: `1,2,3`, or a count.
        architectures: names with commas between them.
        design: one of `Design`, or None.
        folds: of `kfold`.
        modalities: see `Plan`.

    Raises:
        PlanInvalid: what is typed is none of these.
    """
    counted = "," not in seeds
    words = [word.strip() for word in seeds.split(",") if word.strip()]
    whole = bool(words) and all(word.isascii() and word.isdigit() for word in words)
    if not whole or (counted and not 0 < int(words[0]) <= MANY):
        raise PlanInvalid(f"seeds `{seeds}`", where="--seeds", remedy="give whole numbers as 1,2,3, or how many")
    numbers = [int(word) for word in words]
    chosen = next((known for known in DESIGNS if known == design), None)
    if design is not None and chosen is None:
        raise PlanInvalid(f"unknown design `{design}`", where="--design", remedy=f"choose from {', '.join(DESIGNS)}")
    return Plan(
        seeds=tuple(range(study.seed, study.seed + numbers[0]) if counted else numbers),
        architectures=tuple(word.strip() for word in architectures.split(",") if word.strip()),
        design=chosen,
        folds=folds,
        modalities=modalities,
    )


def design_of(study: Study, plan: Plan) -> Design:
    """The plan's design, or what the study's sites allow.

    Raises:
        PlanInvalid: leaving one site out of fewer than three.
    """
    design: Design = plan.design or ("split" if study.validate_sites else "leave-one-site-out")
    if design == "leave-one-site-out" and len(study.train_sites) < 3:
        raise PlanInvalid(
            f"{len(study.train_sites)} training sites: one left out, no federation is left",
            where=study.study,
            remedy="choose --design split or kfold",
        )
    return design


def groups_of(study: Study, plan: Plan) -> dict[str, dict[str, Any]]:
    """Keys of `model` that make each group, the reference first.

    Raises:
        NotCompared: a study under differential privacy, with a public preparation, or that trains a drawing model.
        PlanInvalid: an architecture that is unknown or that the study cannot form; architectures beside `modalities`.
    """
    if study.private or study.segmentation is not None:
        raise NotCompared(
            "it is private, and a pooled or local model is not" if study.segmentation is None else "it draws tumours",
            where=study.study,
            remedy="compare architectures on a study with `privacy.mode: none` and without `segmentation`",
        )
    if study.training.preparation == "public":
        raise NotCompared(
            "its public preparation is an artefact of one run",
            where=study.study,
            remedy="compare on a study with `training.preparation: federated`",
        )
    if plan.modalities and plan.architectures:
        raise PlanInvalid(
            "architectures and modalities at once",
            where="--modalities",
            remedy="give one: sets of inputs are compared under the study's own architecture",
        )
    if plan.modalities:
        return _input_groups(study)
    asked = plan.architectures or ARCHITECTURES
    if unknown := [name for name in asked if name not in ARCHITECTURES]:
        raise PlanInvalid(
            f"unknown architectures {unknown}",
            where="--architectures",
            remedy=f"choose from {', '.join(ARCHITECTURES)}",
        )
    ordered = sorted(dict.fromkeys(asked), key=lambda name: name != REFERENCE)
    images = Schema.of(study, ())
    if "cnn" in ordered and not (images.mr or images.ct):  # without crops nothing in it would be convolved
        if plan.architectures:
            raise PlanInvalid(
                "the study has no images for a cnn", where="--architectures", remedy="leave cnn out, or add `sequences`"
            )
        ordered.remove("cnn")
    return {name: {"architecture": name} for name in ordered}


def variants(study: Study, plan: Plan) -> tuple[Variant, ...]:
    """Every run of the comparison, seed by seed, so that an early stop leaves whole seeds.

    Sections that do not change the common model are left out: prediction, personalisation, evidence, description. Trees
    and the clinical baseline depend on no architecture and are fitted in the reference's runs alone.

    Raises:
        NotCompared, PlanInvalid: see there.
    """
    groups, design = groups_of(study, plan), design_of(study, plan)
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise PlanInvalid(f"seeds {list(plan.seeds)}", where="--seeds", remedy="give different seeds, or how many")
    reference = next(iter(groups))
    made = []
    for seed in plan.seeds:
        for part, change in _parts(study, design, plan).items():
            for group, model in groups.items():
                # one machine holds every site's patients: what leaves a site is hidden from nobody
                evaluation: dict[str, Any] = {"leave_one_site_out": False, "describe": False}
                evaluation["local_models"] = "everywhere"
                evaluation["local_baseline"] = not plan.modalities and study.evaluation.local_baseline
                if group != reference:
                    evaluation |= {"clinical_baseline": False, "trees": None}
                shared = {"seed": seed, "model": model, "evaluation": evaluation, **_harmonised(study, model)}
                shared["aggregation"] = "plain"
                one = _changed(study, {**shared, **change})
                words = (re.sub(r"[+ ]", "-", group.lower()), f"seed-{seed}", part)
                name = "-".join(word for word in words if word)
                made.append(Variant(name, group, seed, part, one, not plan.modalities))
    return tuple(made)


def _parts(study: Study, design: Design, plan: Plan) -> dict[str, dict[str, Any]]:
    """What each held-out part changes in the study."""
    if design == "split":
        return {"": {}}
    if design == "kfold":
        return {f"fold-{k}-of-{plan.folds}": {"split": {"folds": plan.folds, "fold": k}} for k in range(plan.folds)}
    quorum = study.quorum
    return {
        f"without-{left}": {
            "sites": [
                {"name": s.name, "role": "validate" if s.name == left else s.role} for s in study.sites
            ],
            "quorum": {
                "minimum": min(quorum.minimum, len(study.train_sites) - 1),
                **{key: [name for name in getattr(quorum, key) if name != left] for key in ("must", "may")},
            },
        }
        for left in study.train_sites
    }  # fmt: skip


def _input_groups(study: Study) -> dict[str, dict[str, Any]]:
    """The sets of inputs that the study can form, each different from those before it.

    Raises:
        PlanInvalid: fewer than two.
    """
    whole = study.model.inputs or input_kinds(study)
    found: dict[str, dict[str, Any]] = {}
    seen: list[set[InputKind]] = []
    for name, kinds in INPUT_SETS.items():
        own = [kind for kind in kinds if kind in whole]
        alone = name in ("MRI", "CT") and own == ["clinical"]
        if own and not alone and set(own) not in seen:
            seen.append(set(own))
            label = name if name != "MRI+CT" or {"image-ct", "radiomics-ct"} & set(whole) else "all inputs"
            found[label] = {"inputs": own}
    if len(found) < 2:
        raise PlanInvalid(
            f"the study has one kind of input only, {list(whole)}", where="--modalities", remedy="compare architectures"
        )
    return found


def _harmonised(study: Study, model: dict[str, Any]) -> dict[str, Any]:
    """What a set of inputs leaves of the harmonisation: none without features, no covariate that is not seen."""
    inputs = model.get("inputs")
    if inputs is None or study.harmonisation is None:
        return {}
    if not any(kind.startswith("radiomics") for kind in inputs):
        return {"harmonisation": None}
    return {} if "clinical" in inputs else {"harmonisation": {"covariates": []}}


def _changed(study: Study, changes: dict[str, Any]) -> Study:
    """The study with these keys replaced, sections key by key.

    Raises:
        StudyInvalid: the result is no study.
    """
    content = study.model_dump(mode="json")
    for name in ("prediction", "personalisation", "evidence"):
        content.pop(name, None)
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    try:
        return parse_study(content, study.study)
    except StudyInvalid as error:
        raise NotCompared(error.what, where=study.study, remedy="change the study, or what is asked of it") from None
