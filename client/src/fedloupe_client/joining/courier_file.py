"""What the courier must know of the kit in force, beside its key: COURIER/courier.json, written by `join`.

    kit = read_courier_file(Path("COURIER"))
    kit.address                                  # "fl.example.org:443"

The courier runs as another user, who cannot read HOME; so its folder says where to dial and until when.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from fedloupe.enrolment import Address, Document, Moment, Site, parse_document
from fedloupe_client.joining.errors import CourierNotJoined

COURIER_FILE = "courier.json"


class CourierFile(Document):
    """The part of a kit that the courier reads; nothing in it is secret.

    Attributes:
        number: of the kit.
        site: whose courier this is.
        address: `host:port` that it dials.
        expires: when the site's certificate ends; UTC, ISO 8601.
    """

    format: Literal["fedloupe-courier-1"] = "fedloupe-courier-1"
    number: int = Field(ge=1, lt=2**31)
    site: Site
    address: Address
    expires: Moment


def read_courier_file(courier: Path) -> CourierFile:
    """The kit in force, as the courier's folder has it.

    Raises:
        CourierNotJoined: no kit was installed here, or the file is damaged or not readable.
    """
    path = courier / COURIER_FILE
    remedy = "install the kit with `fedloupe-site join HOME KIT --courier COURIER`, and let the courier's user read it"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CourierNotJoined(f"it cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    return parse_document(content, CourierFile, CourierNotJoined, str(path), remedy)
