"""Which kit's courier came to the SuperLink, by site: the keys of earlier kits have no business there any more.

note_seen(Path("FED"), {"north": 3})       # FED/couriers.json
read_seen(Path("FED"))                      # {"north": 3}

The SuperLink knows it too, but its database may be lost; an old key must not come back then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedloupe.enrolment import Document, Site, document_bytes
from fedloupe_server.provision.files import write_whole
from fedloupe_server.provision.records import read_record


class Seen(Document):
    """FED/couriers.json; the service alone writes it.

    Attributes:
        seen: by site, number of the newest kit whose courier took the place of an earlier one.
    """

    format: Literal["fedloupe-couriers-1"] = "fedloupe-couriers-1"
    seen: dict[Site, Annotated[int, Field(ge=1, lt=2**31)]]


def read_seen(folder: Path) -> Mapping[str, int]:
    """By site, the kit whose courier was seen; empty before the first rotation.

    Raises:
        FederationUnusable: the file is damaged.
    """
    path = folder / "couriers.json"
    return read_record(path, Seen).seen if path.exists() else {}


def note_seen(folder: Path, kits: Mapping[str, int]) -> None:
    """Remember that couriers of these kits were seen; a kit never takes the place of a later one.

    Raises:
        FederationUnusable, FederationNotWritten: the file.
    """
    before = read_seen(folder)
    after = {**before, **{site: max(kit, before.get(site, 0)) for site, kit in kits.items()}}
    if after != before:
        write_whole(folder / "couriers.json", document_bytes(Seen(seen=after)))
