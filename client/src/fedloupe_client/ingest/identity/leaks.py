"""Does anything of an identifier stand in what was written? Every file of a folder is searched.

    found = leaks(home / "store", identifiers, declared={config.site, *config.source.series})
    if found: throw the store away

A `Leak` names a file and the identifier, for the hospital's eyes only. Nothing is written here.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip
from isal.igzip_lib import IsalError

from fedloupe_client.ingest.files import telling_apart
from fedloupe_client.ingest.identity.attributes import PLACEHOLDERS
from fedloupe_client.ingest.identity.needles import Needles
from fedloupe_client.ingest.problems import FileUnreadable

_BLOCK = 16 << 20
_SHORT = 4
_NIFTI = (b"n+1\0", b"ni1\0")
_EMBEDDED = re.compile(rb"data:[\w/+.;=-]{0,80};base64,([A-Za-z0-9+/=]+)")
# what text never holds; voxels and compressed pictures are full of it
_CONTROL = bytes(set(range(32)) - {0, 9, 10, 12, 13, 27})


@dataclass(frozen=True)
class Leak:
    """An identifier in a file, or in its name.

    Attributes:
        file: relative to the folder that was searched.
        identifier: the text as the hospital wrote it; never to be sent or logged.
        inside: False where the file's or a folder's name holds it.
    """

    file: Path
    identifier: str
    inside: bool = True


def leaks(folder: Path, identifiers: Iterable[str], *, declared: Iterable[str] = ()) -> list[Leak]:
    """Identifiers in the files below a folder, sorted by file and identifier; one entry for each pair.

    `.gz` is unpacked, pictures embedded in HTML are decoded. In text, any case, as UTF-8, Windows-1252, UTF-16 or
    escaped for JSON or HTML:

    - four characters or more: anywhere, but one of hexadecimal digits alone only outside a longer number or pseudonym;
    - two or three with a letter among them: as a whole word, as written or in capitals;
    - a number up to three digits or a single character tells nobody apart from a count: in names of files only.

    In voxels and other binary content chance would find short texts: there, eight characters or more, and three
    different ones; a NIfTI header is searched as text.

    Args:
        folder: for instance `home/store`, or a report's folder.
        identifiers: local ids, and `Identity.identifiers` of the headers.
        declared: texts that may stand there, such as the site's name in the study; compared without case.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: a file that cannot be searched is not free of leaks.
    """
    harmless = PLACEHOLDERS | {text.strip().casefold() for text in declared}
    texts = sorted({text.strip() for text in identifiers if text.strip().casefold() not in harmless})
    needles, small = (
        Needles([text for text in texts if not _is_small(text)]),
        [text for text in texts if _is_small(text)],
    )
    found: set[tuple[Path, str, bool]] = set()
    with telling_apart(folder):
        files = sorted(path for path in folder.iterdir()) if folder.is_dir() else [folder]
    queue = list(files)
    while queue:
        path = queue.pop()
        name = path.relative_to(folder) if path != folder else Path(path.name)
        found |= {(name, text, False) for text in needles.in_text(path.name.encode())}
        words = set(re.split(r"[^0-9a-z]+", path.name.casefold()))
        found |= {(name, text, False) for text in small if text.casefold() in words}
        if path.is_dir():
            with telling_apart(path):
                queue.extend(path.iterdir())
            continue
        found |= {(name, text, True) for text in _in_file(path, needles)}
    return [Leak(*one) for one in sorted(found)]


def _is_small(text: str) -> bool:
    return len(text) == 1 or (len(text) < _SHORT and not any(letter.isalpha() for letter in text))


def _in_file(path: Path, needles: Needles) -> set[str]:
    found: set[str] = set()
    try:
        with telling_apart(path), open(path, "rb") as raw:
            start = raw.read(1024)
            raw.seek(0)
            if start[:2] != b"\x1f\x8b":
                return _in_stream(raw, needles)
            if start[3] & 0b11100:  # RFC 1952: an extra field, the original file's name, or a comment
                found |= needles.in_text(start[10:])
            with igzip.open(raw, "rb") as unpacked:  # type: ignore[no-untyped-call]
                return found | _in_stream(cast(BinaryIO, unpacked), needles)
    except (EOFError, IsalError) as error:  # type: ignore[misc]  # its stub forgets that it is an exception
        raise FileUnreadable(
            f"a packed file is damaged ({type(error).__name__})", where=str(path), remedy="run ingest again"
        ) from None


def _in_stream(stream: BinaryIO, needles: Needles) -> set[str]:
    """Blocks overlap by the longest needle, so that none is cut in two."""
    found: set[str] = set()
    tail, binary = b"", None
    for block in _blocks(stream):
        if binary is None:
            binary = _is_binary(block)
            if block[344:348] in _NIFTI:
                offset = struct.unpack_from("<f", block, 108)[0]
                found |= needles.in_text(block[: min(max(352, int(offset)), 1 << 20) if 0 <= offset < 2**31 else 352])
        whole = tail + block
        found |= needles.in_binary(whole) if binary else _in_text(whole, needles)
        tail = whole[-needles.longest :]
    return found


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block


def _is_binary(block: bytes) -> bool:
    sample = block[: 1 << 16].replace(b"\0", b"")
    return block[344:348] in _NIFTI or len(sample) - len(sample.translate(None, _CONTROL)) > 0.01 * len(sample)


def _in_text(blob: bytes, needles: Needles) -> set[str]:
    found: set[str] = set()
    for match in _EMBEDDED.finditer(blob):
        try:
            content = base64.b64decode(match[1])
        except binascii.Error:
            continue  # cut by the end of a block; the text around it is searched all the same
        found |= needles.in_binary(content) if _is_binary(content) else needles.in_text(content)
    text = _EMBEDDED.sub(b"", blob)
    found |= needles.in_text(text)
    if b"\0" in text:  # UTF-16 of Western text is that text with zeros between
        found |= needles.in_text(text.replace(b"\0", b""))
    return found
