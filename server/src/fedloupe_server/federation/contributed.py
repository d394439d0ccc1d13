"""Who gave something to a run, `contributed.json`: on disk with a site's first such answer, before it is used.

contributed = Contributed(Path("run/contributed.json"))
contributed.note("north")
contributed.sites                        # ("north",)
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedloupe_server.federation.journal import JournalDamaged, write_atomic


class Contributed:
    """The sites whose answer to a contributing request arrived (`fedloupe.contributing`).

    A masked term of a secure sum counts, whether its sum was opened or not: whoever may be in it is not external.

    Args:
        path: of the file; None: nothing is kept.

    Raises:
        JournalDamaged: the file is not such a list.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._sites = path, set[str]()
        if path is None or not path.exists():
            return
        try:
            self._sites = set(TypeAdapter(list[str]).validate_json(path.read_bytes()))
        except ValidationError:
            raise JournalDamaged(
                "who gave something to this run cannot be read", where=str(path), remedy="restore it from a backup"
            ) from None

    def note(self, site: str) -> None:
        """This site answered a contributing request."""
        if site in self._sites:
            return
        self._sites.add(site)
        if self._path is not None:
            write_atomic(self._path, (json.dumps(self.sites) + "\n").encode())

    @property
    def sites(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(self._sites))
