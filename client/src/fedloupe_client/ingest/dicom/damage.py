"""What pydicom and numpy raise when a DICOM file is damaged, as one error of this room.

with damage(path, "a DICOM header"):
    head = pydicom.dcmread(file)

The library's own words are left behind: they quote the bytes, and a name may be among them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import BytesLengthException, InvalidDicomError

from fedloupe_client.ingest.problems import FileUnreadable

DAMAGE = (
    InvalidDicomError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RecursionError,  # sequences within sequences without end
    BytesLengthException,
    struct.error,
    zlib.error,
)


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Turn what a wrong tag, a short value or a cut-off file makes the libraries raise into this room's error.

    Raises:
        FileUnreadable: naming the file and the kind of exception.
    """
    try:
        yield
    except DAMAGE as error:
        raise FileUnreadable(
            f"{what} is damaged ({type(error).__name__})", where=str(path), remedy="export it again"
        ) from None
