"""Every error that a user can cause: a code, what happened, where, and what to do next.

    raise EmptyMask("the tumour mask holds no voxel", where="case 7f3a", remedy="draw it, or leave the case out")

Each room derives its own precise errors from `FedLoupeError`. Only `code` and `title` may cross a hospital's
door: `what` and `where` can name files and stay at home.
"""

from __future__ import annotations

from typing import ClassVar


class FedLoupeError(Exception):
    """Base of all user errors.

    Attributes:
        code: stable identifier, `FL-` and three digits; the first digit is the room
            (1 study, 2 ingest, 3 imaging, 4 radiomics, 5 gate and privacy, 6 messages and site,
            7 federation and deployment, 8 evidence).
        title: the error in a few words, free of any file, value or identifier; safe to send.
        what: what happened, in a sentence. Stays at the site.
        where: the file, case, site or key concerned. Stays at the site.
        remedy: what to do next.
    """

    code: ClassVar[str] = "FL-000"
    title: ClassVar[str] = "error"

    def __init__(self, what: str, *, where: str = "", remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"[{self.code}] {what}" + (f" ({where})" if where else "") + f". {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process border (an exception with keyword arguments does not by itself)."""
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(kind: type[FedLoupeError], what: str, where: str, remedy: str) -> FedLoupeError:
    return kind(what, where=where, remedy=remedy)


def catalogue() -> dict[str, type[FedLoupeError]]:
    """Every error class imported so far that has a code of its own, by code.

    Raises:
        RuntimeError: two classes share a code (a programming error).
    """
    found: dict[str, type[FedLoupeError]] = {}
    queue = list(FedLoupeError.__subclasses__())
    while queue:
        kind = queue.pop()
        queue.extend(kind.__subclasses__())
        if kind.code == FedLoupeError.code:
            continue  # a common base, never raised itself
        if found.setdefault(kind.code, kind) is not kind:
            raise RuntimeError(f"{kind.__name__} and {found[kind.code].__name__} share the code {kind.code}")
    return dict(sorted(found.items()))
