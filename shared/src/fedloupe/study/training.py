"""How a study trains: rounds and local work, and what may be learned of one patient."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fedloupe.study.sections import Frozen, Grown


class Training(Grown):
    """Rounds and local work. FedAvg: McMahan 2017; FedProx: Li 2020; FedAdam: Reddi 2021."""

    later: ClassVar = ("random_intercept", "augmentation", "hide")

    rounds: int = Field(default=20, ge=1, le=10_000)
    local_epochs: int = Field(default=2, ge=1, le=100)
    batch_size: int = Field(default=32, ge=1, le=4096)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    strategy: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    proximal_mu: float = Field(default=0.01, ge=0, description="FedProx only")
    server_learning_rate: float = Field(default=0.01, gt=0, description="FedAdam only")
    weighting: Literal["patients", "equal"] = "patients"
    start: Literal["logistic", "random"] = Field(
        default="logistic",
        description="the linear path begins at the logistic baseline (federated, or a local model's own), or at zero",
    )
    random_intercept: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="each site has an intercept of its own while the model is fitted, of this standard deviation in "
        "log-odds; a round's weights begin at it, and the model keeps the mean. None: one intercept for all",
    )
    augmentation: Literal["mild", "strong"] = Field(
        default="mild",
        description="of the crops. mild: left-right mirror and a gain a patient; strong: also small shifts, and gain, "
        "offset and noise a volume, as between scanners",
    )
    hide: float = Field(
        default=0.0, ge=0, lt=1, description="how often each optional sequence is hidden from the model while it trains"
    )
    preparation: Literal["federated", "public"] = Field(
        default="federated",
        description="scaling and projection: from the training sites' sums, or a public artefact (needed under DP)",
    )

    def misfit_under_privacy(self, mode: str) -> str | None:
        """Why a study under `privacy.mode: dp-sgd` or `client-dp` cannot train like this; None where it can."""
        rules = {
            "needs `training.preparation: public`: a scaler fitted on patients spends budget": self.preparation
            != "public",
            "needs `training.start: random`: exact sums would bypass the budget": self.start != "random",
            "does not fit `training.random_intercept`: it would bypass the budget": self.random_intercept is not None,
            "knows neither `training.augmentation` nor `training.hide`": self.augmentation != "mild" or self.hide > 0,
        }
        return next((f"`privacy.mode: {mode}` {words}" for words, wrong in rules.items() if wrong), None)


class NoPrivacy(Frozen):
    """No formal privacy guarantee; the report says so."""

    mode: Literal["none"] = "none"


class DpSgd(Frozen):
    """Record-level DP-SGD at each site (Abadi 2016); the record is the patient; add/remove adjacency."""

    mode: Literal["dp-sgd"]
    epsilon: float = Field(gt=0, le=100)
    delta: float = Field(default=1e-5, gt=0, lt=1e-2)
    clip: float = Field(default=1.0, gt=0, description="L2 bound on a patient's gradient")
    sampling_rate: float = Field(
        default=0.25, gt=0, le=1, description="Poisson sampling probability of a patient in a step"
    )
    learning_rate: float = Field(default=1.0, gt=0, description="SGD; momentum and Adam lose under this noise")
