"""A training site that was not there at the start, and how it comes in: hello, harmonisation, preparation.

    talk.entry = Entry(features, columns, preparation, harmoniser)      # what it must fit and will get
    guest = Guest(talk, "delta", talk.entry)
    guest.request                        # what it is asked now, beside a round that does not wait for it
    guest.heard(reply)                   # whether there is more to ask; the last step lets it take part

It takes part from the next round on. What was fitted before it came stays as it was: its own shifts are found against
the frozen harmonisation, as a scanner's would be that is new to a hospital.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedloupe.messages import (
    Failure,
    HarmoniseReply,
    HarmoniseRequest,
    HelloReply,
    HelloRequest,
    Message,
    PrepareReply,
    PrepareRequest,
    Request,
    Working,
)
from fedloupe.models import Preparation, digest
from fedloupe.statistics.combat import Harmoniser
from fedloupe_server.federation.columns import FeaturesDiffer

if TYPE_CHECKING:
    from fedloupe_server.federation.conversation import Conversation


@dataclass(frozen=True)
class Entry:
    """What a site that comes late must fit, and will get.

    Attributes:
        features, columns: of the run; None where it has none, as in a drawing study.
        preparation: likewise.
        harmoniser: None without harmonisation.
        replies: what sites said of their batches; a guest's is added.
    """

    features: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    preparation: Preparation | None = None
    harmoniser: Harmoniser | None = None
    replies: dict[str, HarmoniseReply] = field(default_factory=dict)


class Guest:
    """One site on its way in.

    Attributes:
        request: what it is asked now.
        barred: it cannot join, and is asked no more.
    """

    def __init__(self, talk: Conversation, site: str, entry: Entry) -> None:
        self._talk, self._site, self._entry = talk, site, entry
        self.request: Request = HelloRequest(**talk.header(site))
        self.barred = False
        self._hello: HelloReply | None = None

    def heard(self, reply: Message) -> bool:
        """Take its answer; whether it is asked for more at once."""
        match reply:
            case Working():  # it goes on by itself, and is asked again beside the next round
                self._talk.watch.working(self._site, reply)
                return False
            case Failure():
                self._refuses(f"{reply.code} {reply.title}")
                self._talk.watch.refused(self._site, reply)
                return False
            case HelloReply() if isinstance(self.request, HelloRequest):
                return self._said_hello(reply)
            case HarmoniseReply() if isinstance(self.request, HarmoniseRequest) and self._entry.harmoniser:
                if reply.harmoniser != digest(*self._entry.harmoniser.arrays.values()):
                    return self._bar("FL-724 a site's harmonisation is not the run's")
                self._entry.replies[self._site] = reply
                return self._next(harmonised=True)
            case PrepareReply() if isinstance(self.request, PrepareRequest):
                return self._comes_in()
            case _:
                raise self._talk.wrong_answer(self._site, f"sent a {type(reply).__name__}")

    def _said_hello(self, reply: HelloReply) -> bool:
        entry = self._entry
        if entry.features is not None and (reply.features, reply.groups) != (entry.features, entry.columns):
            return self._bar(f"{FeaturesDiffer.code} {FeaturesDiffer.title}")
        self._hello = reply
        return self._next(harmonised=entry.harmoniser is None)

    def _next(self, *, harmonised: bool) -> bool:
        entry, header = self._entry, self._talk.header(self._site)
        if not harmonised and entry.harmoniser is not None:
            arrays: dict[str, Any] = entry.harmoniser.arrays
            self.request = HarmoniseRequest(**{**header, **arrays, "scope": "train"})
            return True
        if entry.preparation is None:
            return self._comes_in()
        made = entry.preparation
        arrays = {"mean": made.mean, "scale": made.scale, "projection": made.projection}
        self.request = PrepareRequest(**header, **arrays, origin=made.origin)
        return True

    def _comes_in(self) -> bool:
        if self._hello is not None:
            self._talk.refusals.pop(self._site, None)
            self._talk.watch.answered(self._site, self._hello)
            self._talk.welcome(self._site, self._hello)
        return False

    def _bar(self, why: str) -> bool:
        self.barred = True
        self._refuses(why)
        self._talk.watch.missing(self._site, "absent", f"cannot join: {why}")
        return False

    def _refuses(self, why: str) -> None:
        self._talk.refusals[self._site] = why
