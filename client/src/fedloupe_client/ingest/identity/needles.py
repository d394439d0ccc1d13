"""Many texts looked for at once in many bytes: windows of four or eight bytes against a table, then the whole text.

    needles = Needles(["DOE^JANE", "P-0001"])
    needles.in_text(blob), needles.in_binary(voxels)     # those that stand there, as they were given

Time grows with the bytes, hardly with the number of texts: 100 cases bring some ten thousand identifiers.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINARY_LENGTH = 8
"""Characters below which chance would find a text in voxels, whose bytes take any value."""
_HEX = frozenset(b"0123456789abcdef")
_DIGITS = frozenset(b"0123456789")
_LEAST_BITS, _MOST_BITS = 12, 22
_SPARSE = 64  # places of the table for each window: few enough for a processor's cache, one in so many is met by chance
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: Knuth, TAOCP 3, 6.4


@dataclass(frozen=True)
class _Needle:
    """The lower-case bytes of one spelling of a text."""

    text: str
    form: bytes
    bounded: bool


class Needles:
    """The texts, in every spelling that a file may hold.

    Texts of fewer than four characters are words: searched with their own case, or in capitals, between other signs.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        given = list(texts)
        long = [text for text in given if len(text) >= 4]
        spelt = [_Needle(text, form, _is_hex(text)) for text in long for form in _spellings(text)]
        self._eight = _Table(8, [n for n in spelt if len(n.form) >= 8])
        self._four = _Table(4, [n for n in spelt if len(n.form) < 8])
        wide = [
            _Needle(text, form, False)
            for text in long
            if len(text) >= BINARY_LENGTH and len(set(text)) > 2
            for form in {*_spellings(text), text.encode("utf-16-le").lower(), text.encode("utf-16-be").lower()}
        ]
        # a form of 15 bytes holds an aligned window of eight wherever it lies, one of eight a window of four
        self._aligned_eight = _Table(8, [n for n in wide if len(n.form) >= 15], aligned=True)
        self._aligned_four = _Table(4, [n for n in wide if len(n.form) < 15], aligned=True)
        self._words = {form: text for text in given if len(text) < 4 for form in {text.encode(), text.upper().encode()}}
        self._word = re.compile(
            rb"(?<![0-9A-Za-z])(?:" + b"|".join(map(re.escape, sorted(self._words))) + rb")(?![0-9A-Za-z])"
        )
        self.longest = max((len(n.form) for n in (*spelt, *wide)), default=4)

    def in_text(self, blob: bytes) -> set[str]:
        """Texts of two characters or more that stand in text."""
        low = blob.lower()
        found = {needle.text for table in (self._eight, self._four) for needle in table.find(low)}
        if self._words:
            found |= {self._words[match[0]] for match in self._word.finditer(blob)}
        return found

    def in_binary(self, blob: bytes) -> set[str]:
        """Texts of `BINARY_LENGTH` characters or more, three of them different, that stand in any bytes."""
        low = blob.lower()
        return {needle.text for table in (self._aligned_eight, self._aligned_four) for needle in table.find(low)}


def _is_hex(text: str) -> bool:
    return set(text.lower().encode()) <= _HEX


def _spellings(text: str) -> set[bytes]:
    """UTF-8 and Windows-1252 in small letters, and as JSON and HTML escape it.

    `bytes.lower` leaves letters beyond ASCII as they are, so those are spelt in both cases.
    """
    found = set()
    for form in {text, text.lower(), text.upper()}:
        escaped = {form, json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], html.escape(form)}
        for one in escaped:
            found |= {one.encode().lower(), one.encode("cp1252", errors="replace").lower()}
    return {form for form in found if b"?" not in form or "?" in text}


class _Table:
    """Needles by one window of bytes that each must hold.

    Aligned, only positions that are multiples of the width are looked at: a needle is entered by as many windows,
    one byte apart, one of which falls on such a position.
    """

    def __init__(self, width: int, needles: list[_Needle], *, aligned: bool = False) -> None:
        self._width, self._aligned = width, aligned
        self._by_window: dict[int, list[tuple[int, _Needle]]] = {}
        for needle in needles:
            # the end tells identifiers apart: UIDs and numbered ids begin alike
            last = len(needle.form) - width
            for offset in range(last - width + 1, last + 1) if aligned else [last]:
                window = int.from_bytes(needle.form[offset : offset + width], "little")
                self._by_window.setdefault(window, []).append((offset, needle))
        self._windows = np.sort(np.array(list(self._by_window), dtype=np.uint64))
        bits = min(max((_SPARSE * len(self._windows)).bit_length(), _LEAST_BITS), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        self._present = np.zeros(1 << bits, dtype=bool)
        self._present[self._hash(self._windows)] = True

    def _hash(self, windows: NDArray[np.uint64]) -> NDArray[np.uint64]:
        with np.errstate(over="ignore"):
            hashed: NDArray[np.uint64] = (windows * _MULTIPLIER) >> self._shift
        return hashed

    def find(self, blob: bytes) -> Iterator[_Needle]:
        """Needles that stand in a blob of lower-case bytes."""
        if not self._by_window:
            return
        for phase in range(1 if self._aligned else self._width):
            count = (len(blob) - phase) // self._width
            if count < 1:
                continue
            view = np.frombuffer(blob, dtype=f"<u{self._width}", offset=phase, count=count)
            for first in range(0, count, 1 << 20):  # temporaries that fit a processor's cache
                windows = view[first : first + (1 << 20)].astype(np.uint64)
                likely = np.flatnonzero(self._present[self._hash(windows)])
                likely = likely[np.isin(windows[likely], self._windows)]
                for place in likely.tolist():
                    at = phase + (first + place) * self._width
                    for offset, needle in self._by_window[int(windows[place])]:
                        if _stands(blob, at - offset, needle):
                            yield needle


def _stands(blob: bytes, start: int, needle: _Needle) -> bool:
    end = start + len(needle.form)
    if start < 0 or blob[start:end] != needle.form:
        return False
    if not needle.bounded:
        return True
    before, after = blob[max(0, start - 2) : start], blob[end : end + 2]
    if (before and before[-1] in _HEX) or (after and after[0] in _HEX):
        return False
    fraction = len(before) == 2 and before[1:] == b"." and before[0] in _DIGITS
    decimals = len(after) == 2 and after[:1] == b"." and after[1] in _DIGITS
    return not (fraction or decimals)
