"""ComBat's rounds: ask for sums, work out what the sites share, let each keep its own shifts.

harmoniser = fit_harmoniser(study, talk, sites, columns, journal)       # from the journal where it stands there
install_harmoniser(talk, sites, harmoniser, scope="train")
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    CrossProductsReply,
    CrossProductsRequest,
    DescribeReply,
    DescribeRequest,
    HarmoniseReply,
    HarmoniseRequest,
    PriorReply,
    PriorRequest,
    ResidualsReply,
    ResidualsRequest,
)
from fedloupe.models import digest
from fedloupe.statistics.combat import CrossProducts, Harmoniser, Residuals, level_and_spread, slopes
from fedloupe.statistics.shifts import pooled_prior
from fedloupe.study import Harmonisation
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.journal import Journal, JournalDamaged, read_tensors, write_tensors
from fedloupe_server.statistics.scaling import pooled_moments, scaling

NONE = np.zeros(0)


class HarmonisationRefused(FedLoupeError):
    """A site installed another harmonisation than it was sent."""

    code = "FL-724"
    title = "a site's harmonisation is not the run's"


def fit_harmoniser(
    rules: Harmonisation, talk: Conversation, sites: tuple[str, ...], features: int, journal: Journal
) -> Harmoniser:
    """What the sites share, fitted on the training patients of these sites; once a run.

    Args:
        rules: the study's section.
        talk: with the run's sites.
        sites: that are fitted.
        features: number of feature columns.
        journal: of the run or fold.

    Raises:
        SiteRefused, WrongAnswer: the run can be continued.
        JournalDamaged: the file in the journal is not a harmonisation of these features.
    """
    path = journal.folder / "harmonisation.safetensors"
    if (found := read_tensors(path)) is not None:
        names = set(Harmoniser.__dataclass_fields__)
        if set(found[0]) != names or not (kept := Harmoniser(**found[0])).shaped or len(kept.centre) != features:
            raise JournalDamaged(
                "not a harmonisation of these features",
                where=str(path),
                remedy="restore it, or delete it: its step is then repeated",
            )
        return kept
    described = talk.sums.all(sites, lambda header: DescribeRequest(**header), DescribeReply)
    centre, scale = scaling(pooled_moments(described, features))
    shared: dict[str, Any] = {"centre": centre, "scale": scale, "beta": np.zeros((features, 0))}
    if rules.covariates:
        first = talk.sums.all(
            sites, lambda header: CrossProductsRequest(**header, centre=centre, scale=scale), CrossProductsReply
        )
        shared["beta"] = slopes([CrossProducts(first.count, first.cross, first.moment)])
    second = talk.sums.all(sites, lambda header: ResidualsRequest(**header, **shared), ResidualsReply)
    shared["level"], shared["spread"] = level_and_spread([Residuals(second.count, second.total, second.square)])
    prior = None
    if rules.empirical_bayes:
        third = talk.sums.all(sites, lambda header: PriorRequest(**header, **shared), PriorReply)
        prior = pooled_prior([third.sums])
    harmoniser = Harmoniser(**shared, prior=NONE if prior is None else prior.array)
    write_tensors(path, harmoniser.arrays)
    return harmoniser


def install_harmoniser(
    talk: Conversation, sites: tuple[str, ...], harmoniser: Harmoniser, scope: Literal["train", "unseen"]
) -> dict[str, HarmoniseReply]:
    """Send it to these sites; each works out its own shifts.

    Raises:
        SiteRefused: among others because a batch is too small.
        HarmonisationRefused: see there.
    """
    replies = talk.ask_all(
        sites, lambda header: HarmoniseRequest(**{**header, **harmoniser.arrays, "scope": scope}), HarmoniseReply
    )
    wanted = harmoniser_digest(harmoniser)
    if other := [site for site, reply in replies.items() if reply.harmoniser != wanted]:
        raise HarmonisationRefused(
            f"{', '.join(other)} installed another harmonisation",
            where=talk.run,
            remedy="run the same FedLoupe version everywhere",
        )
    return replies


def harmoniser_digest(harmoniser: Harmoniser) -> str:
    """SHA-256 over its arrays."""
    return digest(*harmoniser.arrays.values())
