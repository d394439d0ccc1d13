"""The two documents by which a hospital joins a federation. Neither holds a secret; both may travel by e-mail.

    request = read_request(path)        # from the hospital: its public keys, and proof that it holds the private ones
    kit = read_kit(path)                # from the coordinator: certificate, address, bundle, study; signed

A file that comes from outside is read strictly: a size limit first, then JSON in which no key stands twice, then every
field by its rule, then the signature. What is signed is `said`: the content as canonical JSON, ASCII, keys sorted.
Whose key signed is for people to compare on the telephone (`fedloupe.signing.spoken`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

import fedloupe
from fedloupe.certificates import LONGEST_PEM, utc_now
from fedloupe.errors import FedLoupeError
from fedloupe.signing import Purpose, SignatureWrong, Signer, check, under

LARGEST_REQUEST = 16_384
LARGEST_KIT = 32 * 2**20
"""Bytes of a file. Flower refuses bundles beyond 10 MB; ours has 7 kB."""


class RequestInvalid(FedLoupeError):
    """A file is not a hospital's enrolment request, or its keys do not stand behind it."""

    code = "FL-135"
    title = "an enrolment request is not valid"


class KitInvalid(FedLoupeError):
    """A file is not a kit, or not as its coordinator signed it."""

    code = "FL-136"
    title = "a kit is not valid"


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("only characters that can be seen")
    return value


def _moment(value: str) -> str:
    datetime.fromisoformat(value)
    return value


Site = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[1-9][0-9]{0,4}$")]
Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$"), AfterValidator(_moment)]
Pem = Annotated[str, Field(max_length=LONGEST_PEM)]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,20}$")]
OpenSsh = Annotated[str, Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{100,300}$")]


class Document(BaseModel):
    """What both have in common: frozen, nothing unknown, no value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    def said(self) -> bytes:
        """What a signature is under."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode("ascii")


class Enrolment(Document):
    """What a hospital asks for.

    Attributes:
        site: its name in the study.
        site_key: Ed25519 public key of the site process.
        courier_key: public key of the courier, EC P-384, one OpenSSH line without a comment.
        version: FedLoupe's at the hospital.
        made: UTC, ISO 8601.
    """

    format: Literal["fedloupe-enrolment-1"] = "fedloupe-enrolment-1"
    site: Site
    site_key: Hex
    courier_key: OpenSsh
    version: Version
    made: Moment


class SignedRequest(Document):
    """An enrolment request with two proofs that its sender holds the private keys.

    Attributes:
        content: what is asked for.
        signature: Ed25519 by the site's key, hex.
        courier_signature: ECDSA with SHA-384 by the courier's key over the same, DER in hex.
    """

    content: Enrolment
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    courier_signature: Annotated[str, Field(pattern=r"^[0-9a-f]{16,300}$")]


class Kit(Document):
    """What a coordinator sends back.

    Attributes:
        number: grows with every kit of the federation.
        site: whom it is for.
        site_key: public key of the site process, in the certificate too.
        courier_key: public key that the coordinator registers for the courier.
        version: FedLoupe's at the coordinator.
        issued: UTC, ISO 8601.
        expires: end of the certificate's time.
        address: `host:port` that the courier dials.
        coordinator: name of the coordinator.
        coordinator_key: its Ed25519 public key, which signs kits and requests.
        authority: the federation's certificate authority, PEM.
        certificate: the site's, PEM.
        revoked: certificates that the authority took back when the kit was made: a CRL in PEM.
        study: the study as canonical JSON.
        fingerprint: SHA-256 of the study.
        bundle: the app bundle, base64; it holds no code.
        bundle_sha256: of the decoded bundle.
    """

    format: Literal["fedloupe-kit-1"] = "fedloupe-kit-1"
    number: int = Field(ge=1, lt=2**31)
    site: Site
    site_key: Hex
    courier_key: OpenSsh
    version: Version
    issued: Moment
    expires: Moment
    address: Address
    coordinator: Name
    coordinator_key: Hex
    authority: Pem
    certificate: Pem
    revoked: Annotated[str, Field(max_length=2**20)]
    study: Annotated[str, Field(max_length=2**23)]
    fingerprint: Hex
    bundle: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
    bundle_sha256: Hex

    @property
    def bundle_bytes(self) -> bytes:
        """The bundle as a file."""
        return base64.b64decode(self.bundle, validate=True)

    @model_validator(mode="after")
    def _digests(self) -> Self:
        if hashlib.sha256(self.bundle_bytes).hexdigest() != self.bundle_sha256:
            raise ValueError("`bundle_sha256` is not the bundle's")
        if hashlib.sha256(self.study.encode()).hexdigest() != self.fingerprint:
            raise ValueError("`fingerprint` is not the study's")
        return self


class SignedKit(Document):
    """A kit and its coordinator's signature, Ed25519 in hex, by `content.coordinator_key`."""

    content: Kit
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def openssh(key: EllipticCurvePublicKey) -> str:
    """A courier's public key in one line, as `flwr supernode register` reads it."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def openssh_fingerprint(line: str) -> str:
    """`SHA256:...` of a public key's OpenSSH line, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(line.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def make_request(site: str, site_key: Signer, courier_key: EllipticCurvePrivateKey) -> SignedRequest:
    """A request, signed with both private keys, which it does not hold."""
    content = Enrolment(
        site=site,
        site_key=site_key.public,
        courier_key=openssh(courier_key.public_key()),
        version=fedloupe.__version__,
        made=utc_now().isoformat(),
    )
    return SignedRequest(
        content=content,
        signature=site_key.sign("enrolment", content.said),
        courier_signature=courier_key.sign(under("enrolment", content.said), ECDSA(SHA384())).hex(),
    )


def read_request(path: Path) -> Enrolment:
    """A hospital's request, after both proofs of possession.

    Raises:
        RequestInvalid: not such a file.
        SignatureWrong: a key in it is not its sender's, or it was changed.
    """
    signed = _read(path, SignedRequest, LARGEST_REQUEST, RequestInvalid)
    said = signed.content.said
    _check("enrolment", said, signed.signature, signed.content.site_key, path)
    try:
        key = load_ssh_public_key(signed.content.courier_key.encode("ascii"))
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1):
            raise ValueError("another kind of key")
        key.verify(bytes.fromhex(signed.courier_signature), under("enrolment", said), ECDSA(SHA384()))
    except (InvalidSignature, ValueError):
        raise SignatureWrong(
            "the sender does not hold the courier's private key, or the request was changed since",
            where=str(path),
            remedy="ask the hospital to make its request again; enrol nothing of this one",
        ) from None
    if openssh(key) != signed.content.courier_key:
        raise RequestInvalid("the courier's key is written oddly", where=str(path), remedy="ask for a new request")
    return signed.content


def sign_kit(kit: Kit, key: Signer) -> SignedKit:
    """A kit under its coordinator's signature."""
    return SignedKit(content=kit, signature=key.sign("kit", kit.said))


def read_kit(path: Path) -> Kit:
    """A kit that is as the key named in it signed it. Whose key that is, people compare.

    Raises:
        KitInvalid: not such a file.
        SignatureWrong: changed since it was signed.
    """
    signed = _read(path, SignedKit, LARGEST_KIT, KitInvalid)
    _check("kit", signed.content.said, signed.signature, signed.content.coordinator_key, path)
    return signed.content


def document_bytes(document: Document) -> bytes:
    """A document as a file that people can open."""
    return (json.dumps(document.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode("ascii")


_Read = TypeVar("_Read", bound=Document)


def _read(path: Path, kind: type[_Read], largest: int, wrong: type[FedLoupeError]) -> _Read:
    remedy = "ask for the file again"
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise wrong(f"it cannot be read: {error.strerror}", where=str(path), remedy="check the path") from None
    if len(content) > largest:
        raise wrong(f"larger than {largest} bytes", where=str(path), remedy=remedy)
    return parse_document(content, kind, wrong, str(path), remedy)


def parse_document(content: bytes, kind: type[_Read], wrong: type[FedLoupeError], where: str, remedy: str) -> _Read:
    """A record of ours from JSON: no key twice, no number that is none, nothing unknown, no other type.

    Raises:
        FedLoupeError: `wrong`, naming the fields and none of their values.
    """
    try:
        return kind.model_validate(json.loads(content, object_pairs_hook=_once, parse_constant=_refuse))
    except ValidationError as error:
        fields = sorted({".".join(str(part) for part in item["loc"]) or "(whole file)" for item in error.errors()})
        raise wrong(f"wrong: {', '.join(fields)[:300]}", where=where, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise wrong(f"not JSON as it should be: {type(error).__name__}", where=where, remedy=remedy) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _check(purpose: Purpose, said: bytes, signature: str, key: str, path: Path) -> None:
    try:
        check(purpose, said, signature, key)
    except SignatureWrong as error:
        raise SignatureWrong(error.what, where=str(path), remedy=error.remedy) from None
