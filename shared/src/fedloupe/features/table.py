"""The columns of a case: their names, their groups, and the IBSI feature behind a name.

table = feature_table(settings, ["t2w", "adc"])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedloupe.features.catalogue import FEATURES, Family, Feature, OriginalFamily
from fedloupe.features.settings import FeatureSettings, FeatureSettingsInvalid


@dataclass(frozen=True)
class FeatureTable:
    """The columns of a case: `names` and, aligned with them, `groups`.

    A group is "shape", a sequence (`t2w`), its rim (`t2w|rim_5mm`) or a difference (`dce_peak:dce_pre`).
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def sequences_of(group: str) -> tuple[str, ...]:
    """The sequences that a group's features were measured on: one, two of a difference, none of `shape` and `table`."""
    return () if group in ("shape", "table") else tuple(group.split("|", maxsplit=1)[0].split(":"))


def blocks(settings: FeatureSettings) -> tuple[tuple[str, Family | OriginalFamily], ...]:
    """(filter, family) of one region of one sequence in the order of columns."""
    return tuple(
        (name, family)
        for name in settings.filters
        for family in (*settings.families, *(settings.original_families if name == "original" else ()))
    )


def feature_table(settings: FeatureSettings, sequences: Iterable[str]) -> FeatureTable:
    """Names and groups of all columns of a case: shape, then each sequence and its rim, then the differences.

    Args:
        settings: the study's frozen settings.
        sequences: in the study's order; the table's groups follow it.

    Raises:
        FeatureSettingsInvalid: a difference names a sequence that is not there.
    """
    sequences = tuple(sequences)
    if unknown := {name for pair in settings.delta for name in pair} - set(sequences):
        raise FeatureSettingsInvalid(
            f"`delta` names {', '.join(sorted(unknown))}, which the study does not have",
            where="radiomics.settings",
            remedy="name two of the study's sequences in each pair",
        )
    names = [f"shape|{feature.name}" for feature in FEATURES["shape"]] if settings.shape else []
    groups = ["shape"] * len(names)

    def append(group: str, parts: Iterable[tuple[str, str]]) -> None:
        for filter_name, family in parts:
            names.extend(f"{group}|{filter_name}|{family}|{feature.name}" for feature in FEATURES[family])
        groups.extend([group] * (len(names) - len(groups)))

    for sequence in sequences:
        append(sequence, blocks(settings))
        if settings.rim is not None:
            append(f"{sequence}|{settings.rim}", blocks(settings))
    for later, earlier in settings.delta:
        append(f"{later}:{earlier}", (block for block in blocks(settings) if block[0] == "original"))
    return FeatureTable(tuple(names), tuple(groups))


def identify(name: str) -> Feature:
    """The IBSI feature behind a column's name.

    Raises:
        KeyError: not a name of this grammar.
    """
    family, feature = name.split("|")[-2:] if "|" in name else ("", name)
    for candidate in FEATURES.get(family, ()):
        if candidate.name == feature:
            return candidate
    raise KeyError(name)
