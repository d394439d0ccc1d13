"""Client-level differential privacy: the unit is a hospital, and the coordinator adds the noise.

Not to be confused with `DpSgd`, which is record-level: the unit is a patient, and each hospital adds its own noise.
Whoever speaks of either says which one, in the words of `RECORD` and `CLIENT`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedloupe.study.evaluation import Evaluation
from fedloupe.study.sections import Frozen
from fedloupe.study.training import DpSgd, NoPrivacy, Training

RECORD = "record-level (one patient)"
CLIENT = "client-level (one hospital, noise added by the coordinator)"


class ClientDp(Frozen):
    """Each hospital's update is clipped as a whole; the coordinator adds noise to their sum (McMahan 2018, DP-FedAvg).

    Two runs are neighbours when they differ in one hospital's updates being there or being zero. Protected against
    whoever receives the models, NOT against the coordinator, who sees clipped updates without noise and is trusted to
    add it. Every hospital counts the same, and the denominator is the number of training sites in the study.
    """

    mode: Literal["client-dp"]
    epsilon: float = Field(gt=0, le=100, description="of all rounds together, for one hospital")
    delta: float = Field(default=1e-5, gt=0, lt=1e-2, description="well below 1 / hospitals")
    clip: float = Field(default=1.0, gt=0, description="L2 bound on a hospital's update in one round, all parameters")

    def misfit(self, training: Training, evaluation: Evaluation, sites: int) -> str | None:
        """Why a study with this section cannot be as it is, beyond what no private study can; None where it can.

        Args:
            training: of the study.
            evaluation: of the study.
            sites: that train.
        """
        mode = "`privacy.mode: client-dp`"
        rules = {
            f"{mode} needs `training.weighting: equal`: numbers of patients must not decide what a hospital counts": (
                training.weighting != "equal"
            ),
            f"{mode} knows no `evaluation.leave_one_site_out`: each fold trains the same hospitals again, which the "
            "study's epsilon does not pay for": evaluation.leave_one_site_out,
            f"`privacy.delta` is {self.delta:g}, which must be below 1 / {sites}, the number of training sites": (
                self.delta * sites >= 1
            ),
        }
        return next((words for words, wrong in rules.items() if wrong), None)


def privacy_in_words(privacy: NoPrivacy | DpSgd | ClientDp) -> str:
    """A study's guarantee in one phrase: its level first, then its numbers."""
    if isinstance(privacy, NoPrivacy):
        return "none: no formal privacy guarantee"
    return f"{CLIENT if isinstance(privacy, ClientDp) else RECORD}: {numbers(privacy)}"


def numbers(privacy: NoPrivacy | DpSgd | ClientDp) -> str:
    """Mode and numbers, as `results.json` has them; `none` where there is no guarantee."""
    if isinstance(privacy, NoPrivacy):
        return "none"
    return f"{privacy.mode}, epsilon {privacy.epsilon:g}, delta {privacy.delta:g}, clip {privacy.clip:g}"
