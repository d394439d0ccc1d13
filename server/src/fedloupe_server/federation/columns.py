"""The feature columns of a run: the same at every site, or the site cannot take part."""

from __future__ import annotations

from collections.abc import Mapping

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
