"""Case and patient pseudonyms: HMAC-SHA256 of the local id under a secret that never leaves the site.

key = site_key(home)                          # made on first use, mode 0600
pseudonym(key, "case", "P-0001")              # 16 hex digits, the same on every ingest
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path
from typing import Literal

from fedloupe_client.ingest.problems import FileUnreadable, PermissionRefused

KEY_BYTES = 32


def site_key(home: Path) -> bytes:
    """The site's secret, 32 bytes in `home/secret.key`; created with mode 0600 when absent.

    Raises:
        PermissionRefused: the file may not be read or made.
        FileUnreadable: it does not hold 32 bytes.
    """
    path = home / "secret.key"
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except PermissionError:
        raise PermissionRefused(
            "the site's secret may not be read or made", where=str(path), remedy="give this user its home folder"
        ) from None
    if len(key) != KEY_BYTES:
        raise FileUnreadable(
            f"the site's secret holds {len(key)} bytes, not {KEY_BYTES}",
            where=str(path),
            remedy="restore it from a backup; without it, cases get new pseudonyms",
        )
    return key


def _make(path: Path) -> None:
    """Write the secret whole or not at all: half a key after a power cut would cost every pseudonym."""
    handle, part = tempfile.mkstemp(prefix="secret.key.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return  # another process was first: its key counts
        except OSError:  # a file system without hard links
            os.rename(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def pseudonym(key: bytes, kind: Literal["case", "patient"], local: str) -> str:
    """16 hex digits for a local id; a case and a patient of the same id differ."""
    return hmac.new(key, f"{kind}:{local}".encode(), hashlib.sha256).hexdigest()[:16]
