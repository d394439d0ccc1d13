"""Groups of patients that can be told side by side without showing single ones by their difference.

told_apart({"age": [...], "born": [...]}, cell=5)       # {"age"}: both part the patients nearly alike
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def told_apart(levels: Mapping[str, Sequence[str]], cell: int) -> set[str]:
    """Variables that may be told together, in their order: the first always, a further one unless a level of it differs
    from a level of an earlier one by a few patients: fewer than `cell`, and not by nobody.

    Args:
        levels: level of each patient by variable, empty where it is not known.
        cell: smallest group that may be described.
    """
    told: dict[str, list[set[int]]] = {}
    for name, each in levels.items():
        sets = [{i for i, level in enumerate(each) if level == one} for one in sorted({*each} - {""})]
        sets = [members for members in sets if len(members) >= cell]  # a smaller level is told to nobody
        others = [group for groups in told.values() for group in groups]
        if not any(0 < len(mine ^ other) < cell for mine in sets for other in others):
            told[name] = sets
    return set(told)
