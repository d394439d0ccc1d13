"""How a long piece of work says how far it is: to a plain callable, of which it knows nothing more.

tell(120, 400)                          # 120 of 400 steps are done
part_of(tell, number=2, parts=20)       # for the third of twenty equal pieces
"""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[int, int], None]
"""Called with the steps that are done and those that are planned."""


def part_of(tell: Tell | None, number: int, parts: int) -> Tell | None:
    """A callable for one of several equal pieces of work; None where nobody listens.

    Args:
        tell: for the whole.
        number: of the piece, from 0.
        parts: how many there are.
    """
    if tell is None:
        return None
    whole: Tell = tell
    return lambda done, total: whole(number * total + done, parts * total)
