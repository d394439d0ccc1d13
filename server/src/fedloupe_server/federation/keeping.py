"""What a run's secure sums came to, on disk: the sites that each is opened over, and the sum itself.

kept = KeptSums(Path("run/sums.json"))
kept.note(digest, ("east", "north", "south"))    # before masks come off
kept.keep(digest, summed)                        # before anything is made of it
kept.find(digest, DescribeReply)                 # for who asks the same again; None: not opened yet
kept.drop(TrainReply)                            # the journal holds what was made of these

A site helps to open one request over one set of sites only. So what was opened is not asked for again, neither after a
crash nor by a later step that wants the same: the sum lies in `sums/`, beside the list of sites.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fedloupe.messages import Message, MessageRefused, decode, encode
from fedloupe_server.federation.journal import JournalDamaged, read_tensors, write_atomic, write_tensors

R = TypeVar("R", bound=Message)


@dataclass(frozen=True)
class Summed(Generic[R]):
    """A sum, the sites in it, and what they say they spent of their privacy budget.

    Attributes:
        carried: those of the sites whose answer is one to an earlier round.
        late: sites at work that were not waited for.
        seconds: that each answer took; of a sum that was kept, none: whoever reads it again measures nothing.
    """

    reply: R
    sites: tuple[str, ...]
    epsilon: dict[str, float] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


class _About(BaseModel):
    """What a kept sum says beside its numbers, see `Summed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: tuple[str, ...]
    epsilon: dict[str, float]
    late: tuple[str, ...]


class KeptSums:
    """The secure sums of one run or fold.

    Args:
        path: of the list of sites; sums lie in the folder beside it of the same name. None: nothing is kept, as where
            there is no run's folder.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def sites(self, digest: str) -> tuple[str, ...] | None:
        """The sites that what has this digest was added up over; None where it was not.

        Raises:
            JournalDamaged: the list cannot be read.
        """
        found = self._noted().get(digest)
        return None if found is None else tuple(found)

    def note(self, digest: str, sites: tuple[str, ...] | None) -> None:
        """Write down the sites of a sum that is about to be opened; None: it was not, and another set may be.

        Raises:
            JournalDamaged: as in `sites`.
        """
        if self._path is not None:
            kept = {**self._noted(), digest: list(sites or ())}
            kept = {name: whom for name, whom in kept.items() if whom}
            write_atomic(self._path, (json.dumps(kept, indent=0) + "\n").encode())

    def keep(self, digest: str, summed: Summed[Any]) -> None:
        """Keep a sum that was opened."""
        if self._path is not None:
            about = _About(sites=summed.sites, epsilon=summed.epsilon, late=summed.late)
            content = {"reply": np.frombuffer(encode(summed.reply), dtype=np.uint8)}
            write_tensors(
                self._path.with_suffix("") / _name(digest, type(summed.reply)), content, about=about.model_dump_json()
            )

    def find(self, digest: str, kind: type[R]) -> Summed[R] | None:
        """The sum of answers of this kind that was kept; None where there is none.

        Raises:
            JournalDamaged: its file is none.
        """
        if self._path is None:
            return None
        path = self._path.with_suffix("") / _name(digest, kind)
        if (found := read_tensors(path)) is None:
            return None
        tensors, words = found
        try:
            reply, about = decode(tensors["reply"].tobytes()), _About.model_validate_json(words["about"])
            if not isinstance(reply, kind):
                raise TypeError
        except (KeyError, TypeError, MessageRefused, ValidationError):
            raise JournalDamaged(
                "not a sum over sites",
                where=str(path),
                remedy="restore it, or delete it: the same sites are asked for it again",
            ) from None
        return Summed(reply, about.sites, about.epsilon, late=about.late)

    def drop(self, kind: type[Message]) -> None:
        """Delete the sums of this kind of answers; over which sites they were opened stays written."""
        if self._path is not None:
            for path in self._path.with_suffix("").glob(_name("*", kind)):
                path.unlink(missing_ok=True)

    def _noted(self) -> dict[str, list[str]]:
        """The sites of each sum, by the digest of what was asked."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            return TypeAdapter(dict[str, list[str]]).validate_json(self._path.read_bytes())
        except ValidationError:
            raise JournalDamaged(
                "the sites of earlier sums cannot be read", where=str(self._path), remedy="restore it from a backup"
            ) from None


def _name(digest: str, kind: type[Message]) -> str:
    return f"{kind.model_fields['kind'].default}-{digest}.safetensors"
