"""The audit chain's head under the site's signature, once a day: `gate/audit-signed.jsonl`.

    sign_daily(home)            # at the first passage of a day: all until then
    sign_head(home)             # now, before a copy is taken
    check_signed(home)          # [] where every signed head is still where it was signed

Who rewrites the chain with its head, but has not the site's key, leaves heads that no line fits any more. The site's
key, `gate/site.key`, never leaves the site; `public` of a signed head is its public half. Of a key that another one
replaced, `gate/site.key.<n>.pub` keeps this half, so that what it signed still counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedloupe.signing import SignatureWrong, Signer, check
from fedloupe_client.gate.audit import Audit
from fedloupe_client.gate.chain import EMPTY, Problem
from fedloupe_client.gate.disk import gate_folder
from fedloupe_client.gate.errors import AuditDamaged


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A chain's head at a moment.

    Attributes:
        time: UTC, ISO 8601.
        sequence: number of the chain's last line.
        sha256: of that line, hex.
        public: the site's public key, 64 hex digits.
        signature: over the four above, 128 hex digits.
    """

    time: str
    sequence: int
    sha256: str
    public: str
    signature: str

    @property
    def said(self) -> bytes:
        """What the signature is under."""
        return _said(self.time, self.sequence, self.sha256, self.public)


def site_key(home: Path) -> Signer:
    """The site's own key; made on first use.

    Raises:
        KeyUnusable: see there.
    """
    path = gate_folder(home) / "site.key"
    return Signer.load(path) if path.exists() else Signer.make(path)


def sign_head(home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SignedHead | None:
    """Sign the chain's head as it is now; None where nothing ever passed.

    A chain that was cut or rewritten since its last signature gets no other one that would cover it up.

    Raises:
        AuditDamaged: the chain does not fit its head, or the last signed head is not in it.
        KeyUnusable: see there.
    """
    head, earlier = Audit(home).sound().head, signed_heads(home)
    if earlier and not _holds(_chain(home), earlier[-1]):
        raise AuditDamaged(
            _not_the_signed(earlier[-1]),
            where=str(home / "gate" / "audit.jsonl"),
            remedy="keep it and `audit-signed.jsonl` as evidence, find out who changed them, restore both of one day",
        )
    if head == EMPTY:
        return None
    key, time = site_key(home), clock().isoformat(timespec="seconds")
    signature = key.sign("audit-head", _said(time, head.sequence, head.sha256, key.public))
    signed = SignedHead(time, head.sequence, head.sha256, key.public, signature)
    _path(home).touch(0o600)
    with _path(home).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(file.read().rfind(b"\n") + 1)  # a line that a crash cut off
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(asdict(signed), sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return signed


def sign_daily(home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SignedHead | None:
    """`sign_head` if this day has no signature yet.

    Raises:
        AuditDamaged, KeyUnusable: see there.
    """
    signed = signed_heads(home)
    if signed and signed[-1].time[:10] == clock().date().isoformat():
        return None
    return sign_head(home, clock)


def signed_heads(home: Path) -> list[SignedHead]:
    """All signed heads, oldest first. A last line that a crash cut off is left out.

    Raises:
        AuditDamaged: a line is no signed head.
    """
    path = _path(home)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        return [SignedHead(**json.loads(line)) for line in lines if line.strip()]
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditDamaged(
            f"a signed head cannot be read: {type(error).__name__}",
            where=str(path),
            remedy="keep it as evidence, find out who changed it, and restore it from its copy",
        ) from None


def check_signed(home: Path) -> list[Problem]:
    """What does not fit: a signature, or a signed head that the chain's line of that number is not.

    Raises:
        AuditDamaged: see `signed_heads`.
    """
    heads = signed_heads(home)  # before the chain: what is signed meanwhile is of lines that come after
    chain, own, problems = _chain(home), _own_keys(home), list[Problem]()
    for number, signed in enumerate(heads, start=1):
        try:
            check("audit-head", signed.said, signed.signature, signed.public)
        except SignatureWrong:
            problems.append(Problem(number, "a signed head whose signature does not fit"))
            continue
        if signed.public not in own:
            problems.append(Problem(number, "a head signed with another key than the site's"))
        if not _holds(chain, signed):
            problems.append(Problem(signed.sequence + 1, _not_the_signed(signed)))
    return problems


def _chain(home: Path) -> list[bytes]:
    """The chain's complete lines."""
    path = home / "gate" / "audit.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _holds(chain: list[bytes], signed: SignedHead) -> bool:
    """Is the chain's line of that number the signed one?"""
    line = chain[signed.sequence] if 0 <= signed.sequence < len(chain) else b""
    return hashlib.sha256(line).hexdigest() == signed.sha256


def _not_the_signed(signed: SignedHead) -> str:
    return f"the chain is not the one that was signed on {signed.time[:10]}"


def kept_key(home: Path) -> Path:
    """Where the public half of the site's key is kept once another takes its place: `gate/site.key.1.pub`, ..."""
    number = 1 + max((int(path.name.split(".")[2]) for path in _kept(home)), default=0)
    return gate_folder(home) / f"site.key.{number}.pub"


def _kept(home: Path) -> list[Path]:
    return [path for path in gate_folder(home).glob("site.key.*.pub") if path.name.split(".")[2].isdecimal()]


def _own_keys(home: Path) -> set[str]:
    """Public halves of the site's key and of those that it had before."""
    return {site_key(home).public} | {
        path.read_text(encoding="ascii", errors="replace").strip() for path in _kept(home)
    }


def _path(home: Path) -> Path:
    return gate_folder(home) / "audit-signed.jsonl"


def _said(time: str, sequence: int, sha256: str, public: str) -> bytes:
    return json.dumps([time, sequence, sha256, public]).encode()
