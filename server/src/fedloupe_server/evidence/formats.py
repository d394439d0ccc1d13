"""Numbers as readers see them: no digit more than the patients behind it can carry.

auc(0.8312), interval(0.741, 0.902), percent(0.8333)     # "0.83", "0.74 to 0.90", "83 %"
"""

from __future__ import annotations

from math import ceil

ABSENT = "–"


def auc(value: float | None) -> str:
    """Two decimals; what is not quite 1 is not shown as 1."""
    if value is None:
        return ABSENT
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval in two decimals."""
    return ABSENT if low is None or high is None else f"{auc(low)} to {auc(high)}"


def with_interval(value: float, low: float, high: float) -> str:
    """`0.83 (0.74 to 0.90)`."""
    return f"{auc(value)} ({interval(low, high)})"


def number(value: float | None, digits: int = 2) -> str:
    """Any number with a true minus."""
    if value is None:
        return ABSENT
    text = f"{abs(value):.{digits}f}"
    return text if value >= 0 or float(text) == 0 else f"−{text}"


def signed_interval(value: float | None, low: float | None, high: float | None) -> str:
    """`−0.12 (−0.40 to 0.16)`, or the interval alone, for numbers outside [0, 1]."""
    between = ABSENT if low is None or high is None else f"({number(low)} to {number(high)})"
    return between if value is None else f"{number(value)} {between}"


def with_error(value: float | None, se: float | None) -> str:
    """`0.93 ± 0.11`: an estimate with its standard error."""
    return ABSENT if value is None or se is None else f"{number(value)} ± {se:.2f}"


def p_value(value: float) -> str:
    """Two decimals, three below 0.1, and no smaller than <0.001."""
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def difference(value: float) -> str:
    """Signed, two decimals, with a true minus."""
    text = f"{abs(value):.2f}"
    return text if text == "0.00" else ("+" if value > 0 else "−") + text


def gain(one: float, other: float) -> float:
    """One AUC minus another at the two decimals shown, so that words, tables and figures agree."""
    return round(round(one, 2) - round(other, 2), 2)


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return ABSENT if value is None else f"{100 * value:.0f} %"


def epsilon(value: float | None) -> str:
    """A privacy loss in two decimals, rounded up: never less than was spent."""
    return ABSENT if value is None else f"{ceil(round(value * 100, 6)) / 100:g}"


def short(digest: str) -> str:
    """The first twelve characters of a digest, enough to compare by eye."""
    return digest[:12]


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 site`, `3 sites`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
