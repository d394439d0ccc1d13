"""Which kit is in force at a site, HOME/kit.json, and how a new one takes its place: all of it or nothing.

    finish(home)                   # completes what a crash interrupted after its point of no return
    kit = installed(home)          # None: never joined

A kit is many files in two folders. All new files are first written beside those that they will replace. Then one file,
HOME/gate/joining.json, is put in place, which lists what goes where: before that instant the old kit is in force, after
it the new one is, and whoever looks next, and sees both folders, does the remaining renames. One process at a time does
either. Who does not see the courier's folder, as the site's container, changes nothing and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from fedloupe.enrolment import Address, Document, Hex, Moment, Name, Site, document_bytes, parse_document
from fedloupe.signing import same_spoken
from fedloupe_client.gate.disk import gate_folder, sync_folder, write_atomic
from fedloupe_client.gate.trust import trust
from fedloupe_client.joining.errors import KitNotInstalled

OLD = ".before"
_GO_ON = (
    "run `fedloupe-site status HOME` as the user who ran `join`, where both folders are seen (with Docker, in the "
    "container `setup`): it goes on"
)


class Installed(Document):
    """The kit in force, without its files.

    Attributes:
        number: of the kit.
        site: this site.
        address: what the courier dials.
        issued: when the kit was made; UTC, ISO 8601.
        expires: when the certificate ends.
        coordinator: name of the coordinator.
        coordinator_key: its public key, hex.
        authority_sha256: of the authority's certificate in PEM.
        fingerprint: of the study that came with the kit; approving it is another step.
        bundle_sha256: of the app bundle.
        courier: the courier's folder.
        by: who installed it.
        joined: when.
    """

    format: Literal["fedloupe-installed-1"] = "fedloupe-installed-1"
    number: int = Field(ge=1, lt=2**31)
    site: Site
    address: Address
    issued: Moment
    expires: Moment
    coordinator: Name
    coordinator_key: Hex
    authority_sha256: Hex
    fingerprint: Hex
    bundle_sha256: Hex
    courier: str
    by: Name
    joined: Moment


class Move(Document):
    """One rename: a file, or a folder, takes its place.

    Attributes:
        source: where it was written; absolute.
        target: its place; absolute.
        sha256: of the file, hex: a rename whose source is gone is done where the target has it. None: a folder.
    """

    source: str
    target: str
    sha256: Hex | None

    @classmethod
    def of(cls, source: Path, target: Path) -> Self:
        """The rename of what is there now."""
        return cls(source=str(source), target=str(target), sha256=None if source.is_dir() else _sha256(source))


class Joining(Document):
    """The point of no return: what remains to be done.

    Attributes:
        moves: in this order.
        name: of the coordinator to trust.
        key: its public key.
        by: who compared it.
        trusts: False: trust was taken back since.
    """

    format: Literal["fedloupe-joining-2"] = "fedloupe-joining-2"
    moves: list[Move]
    name: Name
    key: Hex
    by: Name
    trusts: bool = True


def installed(home: Path) -> Installed | None:
    """The kit in force; None: this site never joined.

    Raises:
        KitNotInstalled: HOME/kit.json is damaged.
    """
    path = home / "kit.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KitNotInstalled(
            f"it cannot be read: {error.strerror}", where=str(path), remedy="see to its permissions"
        ) from None
    return parse_document(content, Installed, KitNotInstalled, str(path), "delete it and join again with your kit")


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One process at a time: a site that starts while a kit is installed waits for its end."""
    descriptor = os.open(gate_folder(home), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def commit(home: Path, joining: Joining) -> None:
    """Decide for the new kit, then put it in place; call it `alone`.

    Raises:
        FedLoupeError, OSError: nothing is decided where the coordinator cannot be trusted; later, `finish` goes on.
    """
    path = gate_folder(home) / "joining.json"
    write_atomic(path, document_bytes(joining))
    try:
        trust(home, joining.name, joining.key, joining.by)
    except BaseException:
        path.unlink()
        raise
    complete(home)


def interrupted(home: Path) -> bool:
    """A decided installation is not all in place: it is going on, or was interrupted."""
    return (home / "gate" / "joining.json").exists()


def finish(home: Path) -> bool:
    """Complete a decided installation that was interrupted; False: there is none, or another process completed it.

    Raises:
        FedLoupeError: see `complete`.
    """
    if not interrupted(home):
        return False
    with alone(home):
        return complete(home)


def complete(home: Path) -> bool:
    """As `finish`, for who is `alone`.

    Raises:
        KitNotInstalled: a folder is not in sight, and nothing is changed; or a rename fails. The next try goes on.
        FedLoupeError: the coordinator cannot be trusted, because the gate's records are damaged.
    """
    path = home / "gate" / "joining.json"
    joining = _decided(path)
    if joining is None:
        return False
    try:
        for move in joining.moves:
            _require(move, path)
        if joining.trusts:
            trust(home, joining.name, joining.key, joining.by)
        for move in joining.moves:
            _move(Path(move.source), Path(move.target))
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise KitNotInstalled(
            f"{error.strerror or type(error).__name__}: the kit is decided and not yet all in place",
            where=str(error.filename or home),
            remedy=f"see to permissions and disk; {_GO_ON}",
        ) from None
    return True


def forgo_trust(home: Path, fingerprint: str) -> None:
    """Let a decided installation, whenever it is completed, trust nobody, if it is of this coordinator; `alone`.

    Raises:
        KitNotInstalled: HOME/gate/joining.json is damaged.
    """
    path = home / "gate" / "joining.json"
    joining = _decided(path)
    if joining is not None and same_spoken(fingerprint, joining.key):
        write_atomic(path, document_bytes(joining.model_copy(update={"trusts": False})))


def _decided(path: Path) -> Joining | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_document(content, Joining, KitNotInstalled, str(path), "delete it and join again with your kit")


def _require(move: Move, joining: Path) -> None:
    """What is to be moved is in sight, or stands in its place already."""
    source, target = Path(move.source), Path(move.target)
    if _there(source) or (_there(target) and move.sha256 in (None, _sha256(target))):
        return
    raise KitNotInstalled(
        f"the kit is decided and not yet all in place, and neither {source.name} nor the {target.name} that it became "
        "is in this folder as it is seen from here",
        where=str(target.parent),
        remedy=f"{_GO_ON}. If the folder is lost, delete {joining}, and join with new keys (`init --new-keys`)",
    )


def _move(source: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}{OLD}")
    if _there(source):
        if target.is_dir():
            remove(old)
            os.replace(target, old)
        os.replace(source, target)
        sync_folder(target.parent)
    remove(old)


def _there(path: Path) -> bool:
    """As `Path.exists`, but what may not be looked at is an error and no absence, in every version of Python."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder that may be read-only; nothing there: nothing done."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
