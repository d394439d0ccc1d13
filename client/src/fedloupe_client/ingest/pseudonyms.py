"""Case and patient pseudonyms: HMAC-SHA256 of the local id under a secret that never leaves the site.

key = site_key(home)                          # made on first use, mode 0600
pseudonym(key, "case", "P-0001")              # 16 hex digits, the same on every ingest
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
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
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = secrets.token_bytes(KEY_BYTES)
            with os.fdopen(handle, "wb") as file:
                file.write(key)
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


def pseudonym(key: bytes, kind: Literal["case", "patient"], local: str) -> str:
    """16 hex digits for a local id; a case and a patient of the same id differ."""
    return hmac.new(key, f"{kind}:{local}".encode(), hashlib.sha256).hexdigest()[:16]
