"""The seal of a fitted run: what is fixed, and who gave something to it, before a hospital that took no part is opened.

    seal = Seal(...).signed(key)            # the coordinator, once a run: `seal.json`
    Seal.parse(text).check()                # a site's gate; then whether the seal is of the study that it approved
    seal.is_of(study)
    seal.differing(other)                   # ("threshold", "models.federated"): what is not the same

"Lock, then test": weights, scaling, harmonisation, threshold, calibration and the plan of the analysis are fixed by
their digests. A site that gave one statistic or one weight to any of them is internal (TRIPOD+AI 2024, item 12d).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError

from fedloupe.models import digest
from fedloupe.record import Tensor
from fedloupe.scoring import Architecture
from fedloupe.signing import Signer, check
from fedloupe.study import Study
from fedloupe.study.protocol import Site
from fedloupe.study.sections import Frozen, Name

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,59}$")]
Share = Annotated[float, Field(ge=0, le=1)]
UNSIGNED = ("coordinator", "signature")
NOT_COMPARED = ("version", "signature", "models")


class SealedModel(Frozen):
    """One model that is scored at sites that took no part, and how.

    Attributes:
        weights: SHA-256 of its parameters (`fedloupe.models.digest`).
        architecture: how they are read.
        calibrated: by the line, with prediction sets, at `threshold`; otherwise as it comes, at `raw_threshold`.
        shift: with the site's own shift taken out, or as measured.
    """

    weights: Hex
    architecture: Architecture = "transformer"
    calibrated: bool = False
    shift: Literal["own", "none"] = "own"


class Seal(Frozen):
    """What is frozen.

    Attributes:
        version: FedLoupe's that made it.
        study: its name; `title` and `sites` as it has them, so that a study with more validate-only sites and another
            title can be told to be the same otherwise.
        fingerprint: of the study.
        run: its name.
        models: by label, every one that is scored at validate-only sites.
        columns: SHA-256 of names and groups of the feature columns; None in a drawing study.
        preparation: SHA-256 of scaling and projection; likewise.
        harmonisation: SHA-256 of what the sites share; None without it.
        features: SHA-256 of the feature settings; None where features are not computed.
        threshold: on the federated model's probability, calibrated where the study predicts; `raw_threshold` on the
            probability of any model as it comes; None in a drawing study.
        line: intercept and slope of the calibrated log-odds; None without `prediction`.
        prediction: SHA-256 of what else predictions rest on (`prediction_digest`).
        contributed: the sites that gave anything to training, tuning, harmonisation, quality or threshold, sorted.
        plan: of the analysis, for people to read; the fingerprint holds all of it.
        coordinator: public key of who signed; empty before.
        signature: Ed25519, hex; empty before.
    """

    format: Literal["fedloupe-seal-1"] = "fedloupe-seal-1"
    version: str = Field(max_length=20)
    study: Name
    title: str
    sites: tuple[Site, ...]
    fingerprint: Hex
    run: str = Field(pattern=r"^[a-z0-9][a-z0-9_/-]{0,119}$")
    models: dict[Label, SealedModel] = Field(min_length=1)
    columns: Hex | None = None
    preparation: Hex | None = None
    harmonisation: Hex | None = None
    features: Hex | None = None
    threshold: Share | None = None
    raw_threshold: Share | None = None
    line: tuple[float, float] | None = None
    prediction: Hex | None = None
    contributed: tuple[Name, ...]
    plan: dict[str, Any]
    coordinator: Hex | Literal[""] = ""
    signature: str = Field(default="", pattern=r"^([0-9a-f]{128})?$")

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """A seal from its JSON.

        Raises:
            ValueError: it is none; the message names fields and no values.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fields = sorted({".".join(str(part) for part in item["loc"]) or "(all)" for item in error.errors()})
            raise ValueError(f"wrong: {', '.join(fields)[:300]}") from None

    @property
    def text(self) -> str:
        """Canonical JSON: what travels."""
        return _canonical(self.model_dump(mode="json"))

    @property
    def said(self) -> bytes:
        """What the signature is under: every field but itself."""
        return _canonical(self.model_dump(mode="json", exclude={"signature"})).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of what is sealed, whoever signed it: the same for the same run."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json", exclude=set(UNSIGNED))).encode()).hexdigest()

    def signed(self, key: Signer) -> Self:
        """The same under a coordinator's signature."""
        named = self.model_copy(update={"coordinator": key.public, "signature": ""})
        return named.model_copy(update={"signature": key.sign("seal", named.said)})

    def check(self) -> None:
        """The coordinator that it names signed all of it.

        Raises:
            SignatureWrong: see there.
        """
        check("seal", self.said, self.signature, self.coordinator)

    def is_of(self, study: Study) -> bool:
        """Whether the study is the sealed one but for its title and for validate-only sites that came since."""
        more = [site for site in study.sites if site not in self.sites]
        if any(site.role != "validate" for site in more) or not set(self.sites) <= set(study.sites):
            return False
        return study.model_copy(update={"title": self.title, "sites": self.sites}).fingerprint == self.fingerprint

    def differing(self, other: Seal) -> tuple[str, ...]:
        """Names of the items in which two seals differ; FedLoupe's version and the signature are none."""
        fields = [name for name in type(self).model_fields if name not in NOT_COMPARED]
        labels = sorted({*self.models, *other.models})
        return (
            *(name for name in fields if getattr(self, name) != getattr(other, name)),
            *(f"models.{label}" for label in labels if self.models.get(label) != other.models.get(label)),
        )


def prediction_digest(admitted: float, limit: float, centre: Tensor, precision: Tensor) -> str:
    """SHA-256 of what predictions rest on beside the line; arguments as in `fedloupe.messages.ReleaseRequest`."""
    return digest(np.array([admitted, limit]), np.asarray(centre), np.asarray(precision))


def columns_digest(features: tuple[str, ...], groups: tuple[str, ...]) -> str:
    """SHA-256 of names and groups of feature columns, in order."""
    return hashlib.sha256(_canonical([list(features), list(groups)]).encode()).hexdigest()


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
