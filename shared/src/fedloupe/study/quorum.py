"""Whom a round waits for, by name, and for how long.

quorum:
  must: [alpha]           # no round counts without it: waited for, however long
  may: [delta]            # counted when it is there in time, never waited for
  minimum: 3              # all other training sites are `should`: waited for until their deadline
  late: leave             # what becomes of a `should` site that is not there by then
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedloupe.study.sections import Frozen, Name

if TYPE_CHECKING:
    from fedloupe.study.protocol import Study

Presence = Literal["must", "should", "may"]
LEAST_SITES = 3
"""Training sites of a secure sum: of two, each would know the other's term."""


class Quorum(Frozen):
    """Whom a round waits for. A round counts with every `must` site and at least `minimum` sites.

    A `should` site's deadline in a round is `deadline_factor` times the median of its own seconds in earlier rounds,
    and `deadline_slack_s` more; `timeout_s` in its first one. `late` says what becomes of one that is not there then:
    `wait`: it is waited for as long as it says that it works, and asked `attempts` times where it is silent;
    `leave`: recorded, and left out of the round;
    `carry`: left out, and what it did is added in the next round.
    """

    must: tuple[Name, ...] = Field(default=(), description="training sites without which no round counts")
    may: tuple[Name, ...] = Field(default=(), description="training sites that no round waits for; they may join later")
    minimum: int = Field(default=2, ge=1, description="training sites that a round needs")
    late: Literal["wait", "leave", "carry"] = Field(
        default="wait", description="a `should` site past its deadline is waited for, left out, or carried over"
    )
    deadline_factor: float = Field(default=2.0, ge=1, le=100, description="times a site's own median seconds")
    deadline_slack_s: float = Field(default=120.0, ge=0, description="seconds beyond that")
    timeout_s: float = Field(
        default=3600, gt=0, description="deadline of a site that has no measured round yet, and of everything else"
    )
    attempts: int = Field(
        default=3, ge=1, le=100, description="times a silent site is asked before the run pauses, or ends"
    )
    retry_after_s: float = Field(default=15, ge=0, le=3600, description="seconds before a silent site is asked again")
    silence_s: float = Field(
        default=600,
        gt=0,
        description="seconds without a word of a site after which it counts as silent; one that works "
        "says so every half minute",
    )

    def presence(self, site: str) -> Presence:
        """What the study asks of a training site."""
        return "must" if site in self.must else "may" if site in self.may else "should"

    def misfit(self, study: Study) -> str | None:
        """Why a study cannot have this quorum; None where it can."""
        train, secure = study.train_sites, study.aggregation == "secure"
        unknown = {key: sorted(set(getattr(self, key)) - set(train)) for key in ("must", "may")}
        both = sorted(set(self.must) & set(self.may))
        there = [site for site in train if site not in self.may]
        reference = study.harmonisation.reference if study.harmonisation else None
        rules = {
            **{f"`quorum.{k}` names {n}, not among the training sites {list(train)}": n for k, n in unknown.items()},
            f"`quorum.must` and `quorum.may` both name {both}": both,
            f"`quorum.minimum` is {self.minimum}, but only {len(train)} sites train": self.minimum > len(train),
            "`quorum.may` names every training site: nobody would be waited for": not there,
            f"`quorum.may` leaves {len(there)} sites that are waited for; `aggregation: secure` needs {LEAST_SITES}": (
                secure and len(there) < LEAST_SITES <= len(train)
            ),
            f"`harmonisation.reference` is {reference}, for which `quorum.may` does not wait": reference in self.may,
            "`evaluation.leave_one_site_out` leaves out each training site in turn: `quorum.may` can name none": (
                study.evaluation.leave_one_site_out and bool(self.may)
            ),
            **self._carrying(study),
        }
        return next((words for words, wrong in rules.items() if wrong), None)

    def _carrying(self, study: Study) -> dict[str, bool]:
        carries = self.late == "carry"
        return {
            "`quorum.late: carry` needs `aggregation: plain`: an answer to one round cannot be put under the masks of "
            "another": carries and study.aggregation != "plain",
            "`quorum.late: carry` needs `training.strategy: fedavg`": carries and study.training.strategy != "fedavg",
            "`quorum.late: carry` does not fit `privacy.mode: client-dp`: a hospital would count twice in one round": (
                carries and study.privacy.mode == "client-dp"
            ),
        }
