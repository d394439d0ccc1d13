"""Who says a thing, and that nobody changed it: Ed25519 signatures, each good for one purpose.

    key = Signer.make(folder / "coordinator.key")       # mode 0600; the private half never leaves this machine
    signature = key.sign("request", content)
    check("request", content, signature, key.public)    # SignatureWrong where it does not fit
    spoken(key.public)                                  # 3f2a 90c1 ...: what two people compare on the telephone

Ed25519 as in RFC 8032, from `cryptography`. A public key is written as 64 hex digits, a signature as 128.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fedloupe.errors import FedLoupeError

Purpose = Literal["request", "kit", "enrolment", "study", "sum-keys", "audit-head", "seal"]
"""What a signature is for: one made for a kit is worthless under a request."""


class SignatureWrong(FedLoupeError):
    """The signature is not this key's under this content."""

    code = "FL-130"
    title = "a signature does not fit"


class KeyUnusable(FedLoupeError):
    """A file that should hold a private key holds none, or others may read it."""

    code = "FL-131"
    title = "a private key cannot be used"


@dataclass(frozen=True)
class Signer:
    """A private key and what it signs."""

    private: Ed25519PrivateKey

    @classmethod
    def make(cls, path: Path) -> Self:
        """A new key, written to a file that only its owner may read.

        Raises:
            KeyUnusable: there is a file already, or the folder does not take one.
        """
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise KeyUnusable(
                f"no key can be written: {error.strerror}", where=str(path), remedy="a key is never replaced in place"
            ) from None
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in a file.

        Raises:
            KeyUnusable: no Ed25519 key in PEM (PKCS 8) there, or one that group or others may read.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise KeyUnusable("others may read it", where=str(path), remedy=f"chmod 600 {path}")
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnusable(
                f"no private key: {type(error).__name__}", where=str(path), remedy="restore it from its backup"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusable("not an Ed25519 key", where=str(path), remedy="restore it from its backup")
        return cls(key)

    @property
    def public(self) -> str:
        """The public half, 64 hex digits."""
        return self.private.public_key().public_bytes_raw().hex()

    def sign(self, purpose: Purpose, content: bytes) -> str:
        """The signature, 128 hex digits; the same for the same content."""
        return self.private.sign(under(purpose, content)).hex()


def check(purpose: Purpose, content: bytes, signature: str, public: str) -> None:
    """Check a signature.

    Args:
        purpose: what it must have been made for.
        content: what it must have been made under.
        signature: 128 hex digits.
        public: key of who should have made it, 64 hex digits.

    Raises:
        SignatureWrong: anything does not fit.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), under(purpose, content))
    except (InvalidSignature, ValueError):
        raise SignatureWrong(
            f"not signed with the key {public[:16]}..., or changed since", remedy="ask the sender; use nothing of it"
        ) from None


def spoken(public: str) -> str:
    """A public key as people compare it: the first 128 bits of its SHA-256, in groups of four hex digits."""
    digest = hashlib.sha256(bytes.fromhex(public)).hexdigest()[:32]
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


def same_spoken(heard: str, public: str) -> bool:
    """Is what somebody wrote down on the telephone this key's fingerprint? Spaces and capitals do not matter.

    Args:
        heard: all 32 hex digits; a part of them is no comparison.
        public: 64 hex digits.
    """
    return "".join(heard.split()).lower() == spoken(public).replace(" ", "")


def under(purpose: Purpose, content: bytes) -> bytes:
    """What is signed: the purpose, a zero, and the content's SHA-512, so that large content is read once."""
    return b"fedloupe " + purpose.encode() + b"\0" + hashlib.sha512(content).digest()
