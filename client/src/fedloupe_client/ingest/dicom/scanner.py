"""What DICOM says of the scanner of a series: its manufacturer and field strength, in few classes.

scanner_of(chosen.grid.slices[0].path)      # {"vendor": "Siemens", "field-strength": "2.8936"}
"""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.config import disable_value_validation

from fedloupe.study.levels import scanner_word
from fedloupe_client.ingest.dicom.damage import damage
from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.formats.bounds import check_deflated


def scanner_of(path: Path) -> dict[str, str]:
    """Vendor and field strength (T) of a file, by `Subgroup.header`; without what the header does not say.

    Source: Manufacturer (0008,0070), as one of the known vendors or `other`; Magnetic Field Strength (0018,0087).

    Raises:
        PermissionRefused: the system refuses.
        FileUnreadable: damaged.
    """
    with telling_apart(path), damage(path, "a DICOM header"), disable_value_validation(), open(path, "rb") as file:
        check_deflated(file)
        wanted = ["Manufacturer", "MagneticFieldStrength"]
        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted)
        vendor = scanner_word("vendor", str(head.get("Manufacturer", "") or ""))
        field = str(head.get("MagneticFieldStrength", "") or "")
    found = {"vendor": vendor or "", "field-strength": field if scanner_word("field-strength", field) else ""}
    return {name: text for name, text in found.items() if text}
