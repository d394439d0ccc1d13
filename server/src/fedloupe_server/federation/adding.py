"""A sum over sites while it grows: one term after the other, none kept.

adding = Adding(talk)
adding.add("north", *term_of(reply, equal=False), reply.epsilon)
adding.running.total, adding.layout, adding.sites
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloupe.masking import RunningSum, Term

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation


class Adding:
    """Terms that are added as they come; integers, so that their order does not matter. None is kept.

    Attributes:
        running: their sum.
        layout: shape of each field that they fill.
        epsilon: by site that is in the sum, what it says it spent; None where it says nothing.
    """

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.running = RunningSum()
        self.layout: dict[str, tuple[int, ...]] = {}
        self.epsilon: dict[str, float | None] = {}

    @property
    def sites(self) -> tuple[str, ...]:
        """Who is in the sum, sorted."""
        return tuple(sorted(self.epsilon))

    def add(self, site: str, term: Term, layout: dict[str, tuple[int, ...]], epsilon: float | None) -> None:
        """Add a site's term.

        Raises:
            WrongAnswer: it has other shapes than the first one.
        """
        if not self.epsilon:
            self.layout = layout
        elif layout != self.layout:
            raise self._talk.wrong_answer(
                site, f"answered with arrays of another shape than {next(iter(self.epsilon))}"
            )
        self.running.add(term)
        self.epsilon[site] = epsilon
