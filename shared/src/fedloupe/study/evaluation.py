"""The section that says what the federated model is compared with: local models, baselines, leave-one-site-out.

evaluation: {ridge: 5.0, l1_ratio: 0.5, leave_one_site_out: true}      # in a study's YAML
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedloupe.study.sections import Grown


class TreePlan(BaseModel):
    """Federated gradient-boosted trees: in each round every training site grows one tree, and their mean is the step.

    Names in XGBoost: `max_depth`, `eta`, `lambda`, `colsample_bytree`, `min_child_weight`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(default=40, ge=1, le=500)
    depth: int = Field(default=2, ge=1, le=6, description="splits from root to leaf, at most")
    eta: float = Field(default=0.3, gt=0, le=1, description="learning rate")
    ridge: float = Field(default=1.0, ge=0, description="penalty lambda/2 w^2 on each leaf's log-odds w")
    columns: float = Field(default=0.3, gt=0, le=1, description="share of features that a tree may ask")
    minimum_weight: float = Field(
        default=2.0, ge=0, description="sum of p (1 - p) in a leaf, at least; a site's smallest cell may ask for more"
    )
    grid: int = Field(
        default=16, ge=1, le=64, description="features are rounded to this many steps a standard deviation"
    )


class Evaluation(Grown):
    """What is compared with the federated model."""

    later: ClassVar = ("l1_ratio", "clinical_baseline", "trees", "describe", "local_models")

    local_baseline: bool = Field(default=True, description="each site's own model, same budget; not run under DP")
    local_models: Literal["home", "everywhere"] = Field(
        default="home",
        description="home: a site's own model stays there and is judged there; everywhere: its weights leave, so that "
        "it is judged at the validate-only sites as well",
    )
    logistic_baseline: bool = Field(default=True, description="federated logistic regression, exact; not run under DP")
    ridge: float = Field(
        default=5.0,
        gt=0,
        description="strength lambda of the logistic baselines' penalty, lambda (a |beta|_1 + (1 - a)/2 |beta|^2)",
    )
    l1_ratio: float = Field(default=0.0, ge=0, le=1, description="its a: 0 ridge, 1 lasso, between: elastic net")
    clinical_baseline: bool = Field(
        default=False, description="the same logistic regression on the clinical variables alone"
    )
    trees: TreePlan | None = Field(default=None, description="federated gradient-boosted trees")
    leave_one_site_out: bool = False
    describe: bool = Field(
        default=False, description="features and clinical values over all training sites; not under DP"
    )
    reference_score: str | None = Field(default=None, description="synthetic studies: column with the true probability")
