"""A request under its coordinator's seal: whose it is, unchanged, meant for this site, and good once, for a time.

    sealed = seal(encode(request), key, lifetime_s=3600.0)     # the coordinator, anew for every try
    sealed = decode(encode(sealed))                            # a SealedRequest
    check("request", sealed.said, sealed.signature, public)    # the site's gate, against keys that it approved

The seal is made anew each time a request is sent, so a site can tell a request that is sent again from one that
somebody else plays back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from fedloupe.record import Message, P, Tensor, says
from fedloupe.signing import Signer

SKEW_S = 300
"""Seconds by which two hospitals' clocks may differ; Flower asks the same."""


class SealedRequest(Message):
    """One request, signed."""

    tensors: ClassVar[tuple[str, ...]] = ("inner",)
    octets: ClassVar[tuple[str, ...]] = ("inner",)
    kind: Literal["sealed"] = "sealed"
    coordinator: str = says(P, "public key of the coordinator, hex", pattern=r"^[0-9a-f]{64}$")
    nonce: str = says(P, "a number used once, hex", pattern=r"^[0-9a-f]{32}$")
    issued: int = says(P, "when it was signed, seconds since 1970 UTC", ge=0, lt=2**40)
    expires: int = says(P, "until when it is good, likewise", ge=0, lt=2**40)
    signature: str = says(P, "Ed25519, hex", pattern=r"^[0-9a-f]{128}$")
    inner: Tensor = says(P, "(bytes) uint8: the request")

    @property
    def said(self) -> bytes:
        """What the signature is under: every field but itself, the request as its SHA-256."""
        fields = self.model_dump(mode="json", exclude={"inner", "signature"})
        return _said(fields, np.asarray(self.inner).tobytes())


def seal(blob: bytes, key: Signer, *, lifetime_s: float, now: float | None = None) -> SealedRequest:
    """A request under a new seal.

    Args:
        blob: the request, encoded.
        key: of the coordinator.
        lifetime_s: seconds for which the seal is good.
        now: seconds since 1970 UTC; the clock's where None.

    Raises:
        ValueError: the bytes have no message's header.
    """
    issued = int(time.time() if now is None else now)
    fields: dict[str, Any] = {
        **header_of(blob),
        "kind": "sealed",
        "coordinator": key.public,
        "nonce": secrets.token_hex(16),
        "issued": issued,
        "expires": issued + max(1, int(lifetime_s)),
    }
    signature = key.sign("request", _said(fields, blob))
    return SealedRequest(**fields, signature=signature, inner=np.frombuffer(blob, dtype=np.uint8))


def header_of(blob: bytes) -> dict[str, str]:
    """Version, study, run and site of an encoded message, without its arrays.

    Raises:
        ValueError: there is no such header.
    """
    try:
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["fedloupe"])
        return {name: str(header[name]) for name in Message.model_fields}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no message's header: {error}") from None


def _said(fields: Mapping[str, object], inner: bytes) -> bytes:
    return json.dumps({**fields, "inner": hashlib.sha256(inner).hexdigest()}, sort_keys=True).encode()
