"""The section that says what the federated model is compared with: local models, baselines, leave-one-site-out.

evaluation: {ridge: 5.0, l1_ratio: 0.5, leave_one_site_out: true}      # in a study's YAML
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer


class Evaluation(BaseModel):
    """What is compared with the federated model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    local_baseline: bool = Field(default=True, description="each site's own model, same budget; not run under DP")
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
    leave_one_site_out: bool = False
    reference_score: str | None = Field(default=None, description="synthetic studies: column with the true probability")

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A study that does not use a key that came later keeps the canonical form that hospitals approved."""
        content: dict[str, Any] = handler(self)
        for name in ("l1_ratio", "clinical_baseline"):
            if getattr(self, name) == type(self).model_fields[name].default:
                content.pop(name, None)
        return content
