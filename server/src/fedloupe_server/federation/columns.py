"""The feature columns of a run: the same at every site, or the site cannot take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedloupe.errors import FedLoupeError
from fedloupe.messages import HelloReply


class FeaturesDiffer(FedLoupeError):
    """Sites bring different feature columns."""

    code = "FL-707"
    title = "sites bring different feature columns"


def agreed_columns(hellos: Mapping[str, HelloReply]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Feature names and their groups, the same at every site.

    Raises:
        FeaturesDiffer: naming two sites that differ and by how much.
    """
    first, *others = hellos
    for other in others:
        if hellos[other].groups != hellos[first].groups and hellos[other].features == hellos[first].features:
            raise FeaturesDiffer(
                f"{first} and {other} put the same columns into different groups",
                where=other,
                remedy="run the same FedLoupe version everywhere",
            )
        if hellos[other].features != hellos[first].features:
            apart = set(hellos[other].features) ^ set(hellos[first].features)
            raise FeaturesDiffer(
                f"{first} and {other} differ in {len(apart)} columns, e.g. {sorted(apart)[:3]}",
                where=other,
                remedy="bring the same columns everywhere; `exclude` in site.yaml drops those that are not features",
            )
    return hellos[first].features, hellos[first].groups


def differing(hellos: Mapping[str, HelloReply], may: Sequence[str]) -> tuple[str, ...]:
    """Those of these sites, for which nobody waits, whose columns are not those of the others."""
    needed = [site for site in hellos if site not in may]
    if not needed:
        return ()
    said = {site: (hello.features, hello.groups) for site, hello in hellos.items()}
    return tuple(site for site in may if site in said and said[site] != said[needed[0]])
