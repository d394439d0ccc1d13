"""When a site answers: `mon-fri 20:00-06:00`, `sat,sun 00:00-24:00`, in the machine's local time.

    hours = Hours.parse("mon-fri 20:00-06:00")
    hours.hold(datetime.now())              # True also on Saturday at 5:00, which belongs to Friday's night

Grammar: days, a space, from and to. Days: `mon` to `sun`, ranges with `-` (they may pass Sunday), lists with `,`.
A span whose end is not after its start ends on the next day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?P<days>[a-z,-]+) (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")
_DAY = 24 * 60


@dataclass(frozen=True)
class Hours:
    """One span on some days.

    Attributes:
        days: numbers from Monday, 0, on which it begins.
        start: minutes after midnight.
        length: minutes, 1 to 1440.
    """

    days: frozenset[int]
    start: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its written form.

        Raises:
            ValueError: of another form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"`{text}` is not of the form `mon-fri 20:00-06:00`")
        start, end = (_minutes(found[part], text) for part in ("from", "to"))
        if start == _DAY:
            raise ValueError(f"`{text}` starts at 24:00: say 00:00 of the next day")
        return cls(frozenset(_days(found["days"], text)), start, end - start if end > start else end - start + _DAY)

    def hold(self, moment: datetime) -> bool:
        """Whether a local time lies within."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
        return (today in self.days and self.start <= minute < self.start + self.length) or (
            yesterday in self.days and minute < self.start + self.length - _DAY
        )


def _minutes(text: str, whole: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY:
        raise ValueError(f"`{whole}`: {text} is no time of day")
    return hours * 60 + minutes


def _days(text: str, whole: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or any(end not in DAYS for end in ends):
            raise ValueError(f"`{whole}`: `{part}` is no day and no range of days; days are {', '.join(DAYS)}")
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found |= {day % 7 for day in range(first, last + 1 if last >= first else last + 8)}
    return found
