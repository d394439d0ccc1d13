"""Sites' answers as the one answer that the coordinator makes of them, without masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fedloupe.masking import add_terms, reply_of, term_of
from fedloupe.record import Message

R = TypeVar("R", bound=Message)


def added(replies: Sequence[R]) -> R:
    """The sum of these answers, as `federation.summing` makes it.

    Args:
        replies: one a site.
    """
    terms, layouts = zip(*(term_of(reply, equal=False) for reply in replies), strict=True)
    assert all(layout == layouts[0] for layout in layouts)
    return reply_of(add_terms(terms), layouts[0], type(replies[0]), replies[0], len(replies), equal=False)
