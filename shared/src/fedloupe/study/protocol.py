"""The protocol as a frozen model: what is asked, of whom, with what data, how, and under which limits.

Unknown keys are refused everywhere; no path of data may appear here (those belong to a site's own configuration).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fedloupe.study.client_level import ClientDp
from fedloupe.study.endpoint import Endpoint
from fedloupe.study.evaluation import Evaluation
from fedloupe.study.evidence import Evidence
from fedloupe.study.harmonisation import Harmonisation
from fedloupe.study.inputs import InputKind, misfit
from fedloupe.study.personalisation import Personalisation
from fedloupe.study.prediction import Prediction
from fedloupe.study.quality import Quality
from fedloupe.study.quorum import LEAST_SITES, Quorum
from fedloupe.study.sections import Frozen, Grown, Name
from fedloupe.study.segmentation import Segmentation
from fedloupe.study.training import DpSgd, NoPrivacy, Training

Role = Literal["train", "validate"]
SECTIONS = ("segmentation", "harmonisation", "quality", "prediction", "personalisation", "evidence")
"""Those that a study may lack."""


class Sequence(Frozen):
    """One image volume a patient: an MRI sequence, a DCE phase, or a CT."""

    name: Name
    modality: Literal["MR", "CT"] = "MR"
    intensity: Literal["zscore", "physical", "hounsfield"] = Field(
        default="zscore",
        description="zscore: arbitrary units, normalised within the image; physical: units kept (ADC, 1e-6 mm2/s); "
        "hounsfield: CT, clipped to [-200, 300] HU",
    )
    required: bool = Field(default=True, description="a case without it is excluded; otherwise it is marked missing")


class ClinicalVariable(Frozen):
    """One clinical value; enters the model as (value - centre) / scale and a presence flag."""

    name: Name
    column: str
    centre: float = 0.0
    scale: float = Field(default=1.0, gt=0)
    levels: dict[str, float] | None = Field(
        default=None, description="category text to number; None: the column is numeric"
    )


class Site(Frozen):
    """A hospital and its role: `validate` sites never train and are opened after the freeze."""

    name: Name
    role: Role


class Imaging(Frozen):
    """The common grid: isotropic, aligned with the first sequence of the study."""

    spacing_mm: float = Field(default=1.0, gt=0.2, le=5.0)
    crop_mm: float = Field(default=64.0, ge=8, le=256, description="edge of the cubic tumour crop")
    bias_correction: Literal["n4", "none"] = "n4"
    interpolation: Literal["linear", "cubic"] = Field(
        default="linear", description="of images; cubic: B-splines of order 3. Masks are always linear, cut at one half"
    )


class Radiomics(Frozen):
    """Where features come from.

    `computed`: FedLoupe's engine with frozen `settings` (embedded when the study is loaded).
    `table`: the site already has a feature table; the columns are agreed when the run starts.
    """

    source: Literal["computed", "table", "none"] = "computed"
    settings: dict[str, Any] | None = None


class Model(Grown):
    """Architecture, size and regularisation; every architecture has the linear path, beside its deep part if any."""

    later: ClassVar = ("architecture", "inputs")

    architecture: Literal["transformer", "cnn", "gcn", "logistic"] = Field(
        default="transformer",
        description="transformer: attention over tokens; cnn: 3-D convolutions of the crops; gcn: a graph of feature "
        "groups and places; logistic: the linear path alone, for differential privacy with few patients",
    )
    components: int = Field(default=8, ge=1, le=64, description="principal components a feature group")
    image: bool = Field(default=True, description="the model sees the tumour crops")
    inputs: tuple[InputKind, ...] | None = Field(
        default=None, min_length=1, description="what the model sees of what the study has; all of it where None"
    )
    width: int = Field(default=32, ge=4, le=512)
    depth: int = Field(default=2, ge=1, le=12)
    heads: int = Field(default=4, ge=1, le=16)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    feature_dropout: float = Field(default=0.2, ge=0, lt=1)
    feature_noise: float = Field(default=0.2, ge=0, le=2)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"`width` {self.width} is not a multiple of `heads` {self.heads}")
        return self

    @model_validator(mode="after")
    def _linear_without_crops(self) -> Self:
        if self.architecture == "logistic" and self.image:
            raise ValueError("`architecture: logistic` sees no crops: say `image: false`")
        return self


class Split(Grown):
    """Patient-level split at each training site, seeded and stratified by label. The rest trains.

    8:1:1 is `{test: 0.1, tune: 0.1}`. With `folds` the patients are dealt into so many parts, alike in outcome, and
    part `fold` tests instead of the share `test`.
    """

    later: ClassVar = ("folds", "fold")

    test: float = Field(default=0.25, gt=0, lt=0.9)
    tune: float = Field(default=0.15, gt=0, lt=0.9, description="fixes the threshold; never trains, never tests")

    folds: int | None = Field(default=None, ge=2, le=20)
    fold: int = Field(default=0, ge=0, le=19, description="which part tests, from 0")

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"`fold` is {self.fold}, with `folds` {self.folds}")
        if (1 / self.folds if self.folds else self.test) + self.tune >= 0.9:
            raise ValueError("`test` and `tune` leave less than 10 % of the patients for training")
        return self


class Study(Frozen):
    """One study. `fingerprint` is what hospitals approve."""

    study: Name
    title: str
    synthetic: bool = False
    endpoint: Endpoint
    sequences: tuple[Sequence, ...] = ()
    clinical: tuple[ClinicalVariable, ...] = ()
    sites: tuple[Site, ...] = Field(min_length=1)
    imaging: Imaging = Imaging()
    radiomics: Radiomics = Radiomics()
    model: Model = Model()
    training: Training = Training()
    privacy: Annotated[NoPrivacy | DpSgd | ClientDp, Field(discriminator="mode")] = NoPrivacy()
    aggregation: Literal["secure", "plain"] = Field(
        default="secure",
        description="secure: the coordinator sees sums over at least three sites, and no site's term of them; "
        "plain: it sees each site's weights and sums, and adds them up",
    )
    quorum: Quorum = Quorum()
    split: Split = Split()
    evaluation: Evaluation = Evaluation()
    segmentation: Segmentation | None = Field(
        default=None, description="the study trains a model that draws tumours, and no other"
    )
    harmonisation: Harmonisation | None = Field(
        default=None, description="takes scanners' shifts out of the features (ComBat)"
    )
    quality: Quality | None = Field(
        default=None, description="features that are not repeatable or redundant are dropped"
    )
    prediction: Prediction | None = Field(
        default=None, description="calibrated probabilities for single patients, at every site"
    )
    personalisation: Personalisation | None = Field(
        default=None, description="each training site also gets a model of its own"
    )
    evidence: Evidence | None = Field(
        default=None, description="what is computed of the frozen model at each site, for the evidence pack"
    )
    seed: int = Field(default=1, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, names in (
            ("sites", [s.name for s in self.sites]),
            ("sequences", [s.name for s in self.sequences]),
            ("clinical", [c.name for c in self.clinical]),
        ):
            if twice := sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"`{key}` names {twice} more than once")
        train = self.train_sites
        if not train:
            raise ValueError("`sites` has no site with role `train`")
        if wrong := self.quorum.misfit(self):
            raise ValueError(wrong)
        if self.evaluation.leave_one_site_out and len(train) < 2:
            raise ValueError("`evaluation.leave_one_site_out` needs at least two training sites")
        if self.evidence and self.segmentation:
            raise ValueError("`evidence` is not for a study that trains a drawing model")
        groups = self.evidence.subgroups if self.evidence else ()
        if same := [group.name for group in groups if group.column == self.endpoint.column]:
            raise ValueError(f"`evidence.subgroups` {same} are read from the outcome's column")
        if self.evidence and (taken := self.evidence.taken([variable.name for variable in self.clinical])):
            raise ValueError(f"`evidence` has tables of its own named {taken}: give the variables other names")
        if self.evaluation.reference_score and not self.synthetic:
            raise ValueError("`evaluation.reference_score` is for studies with `synthetic: true`")
        if self.evaluation.clinical_baseline and not self.clinical:
            raise ValueError("`evaluation.clinical_baseline` needs `clinical` variables")
        if self.evaluation.trees and self.radiomics.source == "none" and not self.clinical:
            raise ValueError("`evaluation.trees` needs features or `clinical` variables")
        return self

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        if self.radiomics.source == "table" and self.sequences:
            raise ValueError("`radiomics.source: table` brings no images: remove `sequences`")
        if self.radiomics.source == "computed" and (not self.sequences or self.radiomics.settings is None):
            raise ValueError("`radiomics.source: computed` needs `sequences` and `radiomics.settings`")
        if self.radiomics.source == "none" and not (self.model.image and self.sequences):
            raise ValueError("`radiomics.source: none` needs `sequences` and `model.image: true`")
        if self.sequences and not (self.sequences[0].required and self.sequences[0].modality == "MR"):
            raise ValueError("the first of `sequences` defines the grid: it must be MR and required")
        pairs = (self.radiomics.settings or {}).get("delta", [])
        named = {str(name) for pair in pairs for name in pair} if isinstance(pairs, list | tuple) else set()
        if unknown := sorted(named - {sequence.name for sequence in self.sequences}):
            raise ValueError(f"`radiomics.settings.delta` names {unknown}, not among `sequences`")
        if self.training.hide and all(sequence.required for sequence in self.sequences):
            raise ValueError("`training.hide` needs a sequence with `required: false`")
        if wrong := misfit(self):
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _private_all_the_way(self) -> Self:
        if not self.private:
            return self
        mode = f"`privacy.mode: {self.privacy.mode}`"
        if self.evaluation.describe:
            raise ValueError(f"{mode} knows no `evaluation.describe`: exact sums would bypass the budget")
        if misfit := self.training.misfit_under_privacy(self.privacy.mode):
            raise ValueError(misfit)
        if self.evaluation.clinical_baseline or self.evaluation.trees:
            raise ValueError(f"`evaluation.clinical_baseline` and `evaluation.trees` are not fitted under {mode}")
        if isinstance(self.privacy, ClientDp) and (
            misfit := self.privacy.misfit(self.training, self.evaluation, len(self.train_sites))
        ):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _draws_alone(self) -> Self:
        """What a drawing study can be; `model` and the baselines of `evaluation` play no part in it."""
        if self.segmentation is None:
            return self
        if self.radiomics.source != "none" or self.clinical:
            raise ValueError("`segmentation` learns from images alone: `radiomics.source: none`, no `clinical`")
        if any(s.modality != "MR" or not s.required for s in self.sequences):
            raise ValueError("`segmentation` needs every sequence to be MR and required: a U-Net has no missing input")
        if self.private:
            raise ValueError(f"`segmentation` is not trained under `privacy.mode: {self.privacy.mode}`")
        if self.evaluation.leave_one_site_out:
            raise ValueError("`segmentation` knows no `evaluation.leave_one_site_out`")
        if misfit := self.segmentation.misfit(self.imaging.spacing_mm):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _harmonises_what_is_there(self) -> Self:
        if self.harmonisation is None:
            return self
        misfit = self.harmonisation.misfit(
            source=self.radiomics.source,
            privacy=self.privacy.mode,
            federated=self.training.preparation == "federated",
            columns={variable.name: variable.column for variable in self.clinical},
            endpoint=self.endpoint.column,
            train_sites=self.train_sites,
            leaves_out=self.evaluation.leave_one_site_out,
        )
        if misfit:
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _predicts_openly(self) -> Self:
        for name in ("prediction", "personalisation"):
            if getattr(self, name) is None:
                continue
            if self.private:
                mode = f"`privacy.mode: {self.privacy.mode}`"
                raise ValueError(f"`{name}` is not fitted under {mode}: it would bypass the budget")
            if self.segmentation is not None:
                raise ValueError(f"`{name}` is not for a study that trains a drawing model")
            if self.model.architecture == "logistic":
                raise ValueError(f"`{name}` is not for `model.architecture: logistic`, which has no deep part")
        return self

    @model_validator(mode="after")
    def _features_are_judged_openly(self) -> Self:
        federated = self.training.preparation == "federated" and not self.private
        if self.quality and (misfit := self.quality.misfit(self.radiomics.source, federated)):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.aggregation == "plain":
            return self
        plain = "or say `aggregation: plain`: the coordinator then sees each site's weights and sums"
        if len(self.train_sites) < LEAST_SITES:
            raise ValueError(f"`aggregation: secure` needs at least {LEAST_SITES} training sites; bring more, {plain}")
        if self.evaluation.leave_one_site_out:
            raise ValueError(
                "`evaluation.leave_one_site_out` adds the same sums up with and without each site, and their "
                f"difference is the site's own; leave it out, {plain}"
            )
        if self.evaluation.trees:
            raise ValueError(f"`evaluation.trees` cannot be summed; leave it out, {plain}")
        if self.harmonisation is not None and self.harmonisation.reference is not None:
            raise ValueError(f"`harmonisation.reference` makes one site's sums the whole; leave it out, {plain}")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A study without a section keeps the canonical form, and so the fingerprint, that hospitals approved."""
        content: dict[str, Any] = handler(self)
        absent = [name for name in SECTIONS if getattr(self, name) is None]
        absent += ["aggregation"] if self.aggregation == "secure" else []
        return {name: value for name, value in content.items() if name not in absent}

    @property
    def private(self) -> bool:
        """Whether the rounds are differentially private at either level: nothing exact may leave beside them."""
        return self.privacy.mode != "none"

    @property
    def train_sites(self) -> tuple[str, ...]:
        """Names of the training sites, in the study's order."""
        return tuple(s.name for s in self.sites if s.role == "train")

    @property
    def validate_sites(self) -> tuple[str, ...]:
        """Names of the validate-only sites, in the study's order."""
        return tuple(s.name for s in self.sites if s.role == "validate")

    def role(self, site: str) -> Role | None:
        """The role of a site, or None where the study does not know it."""
        return next((s.role for s in self.sites if s.name == site), None)

    @property
    def canonical(self) -> str:
        """The study as JSON with sorted keys and every default written out, but for absent `endpoint.scales`,
        `SECTIONS`, `aggregation: secure`, and the later keys of `evaluation`, `model`, `split` and `training`."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `canonical` in hex: blind to key order, comments and formatting."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()
