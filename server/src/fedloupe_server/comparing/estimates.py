"""From every variant's scores to mean AUCs and paired differences, place by place.

comparison = compare(setting, fits, parameters, footnotes)

Internal: the training sites' test patients, sites weighted by their patients. In `split` each seed tests other patients
of them; in `kfold` every patient is tested once a seed, by the model of the fold that did not train on him, and the
folds of a site are ranked together. External: all patients of sites that the model never saw; in `leave-one-site-out`
each training site is one in turn. Several external sites count alike: what is asked is a new hospital.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloupe.metrics import OneClassOnly, Repeated, TooFewPatients, repeated_auc, repeated_difference
from fedloupe_server.comparing.record import Comparison, Difference, Estimate, Regime, Setting

Floats = NDArray[np.float64]
LOCAL = "local-"
BASELINES = ("logistic", "clinical", "trees")


@dataclass(frozen=True)
class SiteScores:
    """What the models of one variant said of one site's patients.

    Attributes:
        role: of the site in this variant.
        labels: (n) 0 or 1.
        scores: (n) probabilities by model, NaN where not tested: `federated`, `pooled`, `local-<site>`, `logistic`,
            `clinical`, `trees`, `oracle`. Empty where the site's policy lets nothing be said of so few.
    """

    role: Literal["train", "validate"]
    labels: NDArray[np.int64]
    scores: Mapping[str, Floats]


@dataclass(frozen=True)
class Fit:
    """One variant: a group (architecture or inputs), a seed, and which part was held out ('' where none)."""

    group: str
    seed: int
    part: str
    sites: Mapping[str, SiteScores]


def compare(
    setting: Setting, fits: Sequence[Fit], parameters: Mapping[str, int], footnotes: Iterable[str] = ()
) -> Comparison:
    """Every estimate and every paired difference that the scores allow.

    Args:
        setting: what was compared.
        fits: of all groups and seeds.
        parameters: of each group's model.
        footnotes: what is known already about gaps.
    """
    notes = dict.fromkeys(footnotes)
    models: list[tuple[str, Regime]] = [(g, r) for g in setting.groups for r in ("federated", "pooled", "local")]
    models += [(name, "baseline") for name in BASELINES] + [("oracle", "oracle")]
    found = {model: _at_places(setting, fits, *model, notes) for model in models}
    places = list(dict.fromkeys(place for strata in found.values() for place in strata))
    estimates = [
        _estimate(model, place, found[model][place]) for place in places for model in models if place in found[model]
    ]
    pairs = [
        difference
        for place in places
        if place in ("internal", "external") or "external" not in places
        for difference in _differences(setting, found, place)
    ]
    return Comparison(
        setting=setting,
        parameters=dict(parameters),
        estimates=tuple(estimates),
        differences=tuple(pairs),
        footnotes=tuple(notes),
    )


Strata = dict[str, Repeated]


def _at_places(
    setting: Setting, fits: Sequence[Fit], name: str, regime: Regime, notes: dict[str, None]
) -> dict[str, Strata]:
    """Strata by site for each place at which this kind of model was scored."""
    group = setting.reference if regime in ("baseline", "oracle") else name  # these depend on no architecture
    own = [fit for fit in fits if fit.group == group]
    names = dict.fromkeys(site for fit in own for site in fit.sites)
    places: dict[str, Strata] = {}
    for site in names if setting.design != "leave-one-site-out" else ():
        if (stratum := _stratum(setting, own, site, "train", name, regime, notes)) is not None:
            places.setdefault("internal", {})[site] = stratum
    outside = {
        site: stratum
        for site in names
        if (stratum := _stratum(setting, own, site, "validate", name, regime, notes)) is not None
    }
    if len(outside) > 1:
        places["external"] = outside
    return places | {site: {site: stratum} for site, stratum in outside.items()}


def _stratum(
    setting: Setting,
    fits: Sequence[Fit],
    site: str,
    role: Literal["train", "validate"],
    name: str,
    regime: Regime,
    notes: dict[str, None],
) -> Repeated | None:
    """One site's patients under every seed; None where the site has not this role, or a seed said nothing of it."""
    by_seed: list[Floats] = []
    labels: NDArray[Any] = np.zeros(0)
    for seed in setting.seeds:
        there = [f.sites[site] for f in fits if f.seed == seed and site in f.sites and f.sites[site].role == role]
        rows = [[s.scores[key] for key in _keys(s, site, name, regime)] for s in there]
        if not there or not all(rows):
            if any(not s.scores for s in there):
                notes[
                    f"{site}: too few patients of an outcome are tested for its policy; left out of `{_where(role)}`"
                ] = None
            return None
        labels = there[0].labels
        if role == "train":  # each fold tested others of the site's patients
            joined = np.full(len(labels), np.nan)
            for (row,) in rows:
                joined = np.where(np.isnan(row), joined, row)
            by_seed.append(joined[None])
        else:
            by_seed.append(np.stack([row for models in rows for row in models]))
    try:
        return Repeated(labels, np.stack(by_seed))
    except OneClassOnly:
        notes[f"{site}: in some seed all tested patients have one outcome; left out of `{_where(role)}`"] = None
        return None


def _where(role: str) -> str:
    return "internal" if role == "train" else "external"


def _keys(scored: SiteScores, site: str, name: str, regime: Regime) -> list[str]:
    """The models of this kind that scored the site: at a training site its own local one, elsewhere everyone's."""
    if regime == "local" and scored.role == "train":
        return [key for key in (f"{LOCAL}{site}",) if key in scored.scores]
    if regime == "local":
        return sorted(key for key in scored.scores if key.startswith(LOCAL))
    return [key for key in (name if regime in ("baseline", "oracle") else regime,) if key in scored.scores]


def _estimate(model: tuple[str, Regime], place: str, strata: Strata) -> Estimate:
    found = repeated_auc(list(strata.values()), _weights(place, strata))
    return Estimate(
        group=model[0],
        regime=model[1],
        place=place,
        sites=tuple(strata),
        patients=sum(stratum.patients for stratum in strata.values()),
        **vars(found),
    )


def _weights(place: str, strata: Mapping[str, Repeated]) -> list[int]:
    return [stratum.patients if place == "internal" else 1 for stratum in strata.values()]


def _differences(
    setting: Setting, found: Mapping[tuple[str, Regime], Mapping[str, Strata]], place: str
) -> list[Difference]:
    """Each group against the reference, then each group's federated model against pooled, local and logistic."""
    wanted: list[tuple[tuple[str, Regime], tuple[str, Regime]]] = [
        ((group, "federated"), (setting.reference, "federated"))
        for group in setting.groups
        if group != setting.reference
    ]
    others: tuple[tuple[str | None, Regime], ...] = ((None, "pooled"), (None, "local"), ("logistic", "baseline"))
    wanted += [
        ((group, "federated"), (name or group, regime))
        for group in setting.groups
        for name, regime in others
        if name is None or setting.kind == "architectures" or group == setting.reference  # a baseline has its inputs
    ]
    pairs = []
    for first, second in wanted:
        a, b = found[first].get(place, {}), found[second].get(place, {})
        if both := [site for site in a if site in b]:
            pairs.append(_difference(first, second, place, {site: (a[site], b[site]) for site in both}))
    return [pair for pair in pairs if pair is not None]


def _difference(
    first: tuple[str, Regime], second: tuple[str, Regime], place: str, strata: Mapping[str, tuple[Repeated, Repeated]]
) -> Difference | None:
    one, other = [a for a, _ in strata.values()], [b for _, b in strata.values()]
    try:
        found = repeated_difference(one, other, _weights(place, {site: a for site, (a, _) in strata.items()}))
    except TooFewPatients:  # the estimates stand; of their difference nothing can be said
        return None
    return Difference(
        first=first[0],
        first_regime=first[1],
        second=second[0],
        second_regime=second[1],
        place=place,
        **vars(found),
    )
