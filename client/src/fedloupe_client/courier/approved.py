"""The hospital's Flower home: it holds the digest of the one app bundle that the hospital approved, and no code at all.

    prepare(Path("flower-home"), Path("fedloupe.fedloupe.0-1-0.1f2e3d4c.fab"))     # its SHA-256, now approved
    require_approved(bundle, Path("flower-home"))                                  # before each message is carried

Flower would unpack a bundle and put its folder first on the import path, so code in a bundle would win over what is
installed. Here no bundle is ever unpacked: the courier's executor compares its whole SHA-256 with
`flower-home/approved` and runs the installed FedLoupe. A read-only mount of the folder is a second lock.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

from fedloupe.errors import FedLoupeError

# All that a bundle may hold: two texts, and the list of them that Flower writes.
_TEXTS = {"pyproject.toml", "LICENSE", ".info/CONTENT"}


class BundleRefused(FedLoupeError):
    """The coordinator submitted a bundle that this hospital did not approve."""

    code = "FL-628"
    title = "app bundle not approved by this site"


class BundleWithCode(BundleRefused):
    """It is not approved, and holds code: Flower would put it first on the import path and run it."""

    code = "FL-688"
    title = "app bundle with code, not approved by this site"


class BundleShadows(BundleRefused):
    """It is not approved, and holds a package of a name that is installed here: Flower would take it for that one."""

    code = "FL-689"
    title = "app bundle that shadows an installed package, not approved by this site"


class BundleNotInstalled(FedLoupeError):
    """The Flower home could not be made around this file."""

    code = "FL-629"
    title = "app bundle cannot be installed"


class BundleHoldsMore(FedLoupeError):
    """The bundle holds files that a code-free bundle has not: it is not even offered for approval."""

    code = "FL-675"
    title = "app bundle holds more than two texts"


def environment(home: Path) -> dict[str, str]:
    """Environment of the courier's processes: private home, nothing that calls out."""
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def prepare(home: Path, bundle: Path) -> str:
    """Make the Flower home anew around one bundle, read-only.

    Args:
        home: folder to make; an old one is replaced.
        bundle: the `.fab` file that the hospital looked into and approves.

    Returns:
        The bundle's SHA-256 in hex.

    Raises:
        BundleNotInstalled: not a bundle, or the folder is not writable.
        BundleHoldsMore: there is more in it than `pyproject.toml` and `LICENSE`.
    """
    try:
        content = bundle.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise _not_installed(error, bundle) from None
    if "pyproject.toml" not in names:
        raise _not_installed("no pyproject.toml in it", bundle)
    if more := sorted(names - _TEXTS):
        raise BundleHoldsMore(
            f"{len(more)} more files, the first is {more[0]!r}",
            where=str(bundle),
            remedy="do not approve it; tell the coordinator",
        )
    digest = hashlib.sha256(content).hexdigest()
    try:
        release(home)
        home.mkdir(parents=True)
        approved = home / "approved"
        approved.write_text(digest + "\n", encoding="ascii")
        approved.chmod(0o444)
        home.chmod(0o555)
    except OSError as error:
        raise _not_installed(error, home) from None
    return digest


def release(home: Path) -> None:
    """Remove a prepared home: its folders are read-only, so they are opened first."""
    if home.is_dir():
        for folder, _, _ in os.walk(home):
            Path(folder).chmod(0o755)
        shutil.rmtree(home)


def require_approved(bundle: bytes, home: Path) -> str:
    """The digest of an approved bundle; what arrived is looked at in no other way.

    Raises:
        BundleRefused: its SHA-256 does not stand in `home/approved`, or there is no such file; as `BundleWithCode` or
            `BundleShadows` where it holds more than two texts.
    """
    digest = hashlib.sha256(bundle).hexdigest()
    approved = home / "approved"
    if not approved.is_file() or digest not in approved.read_text(encoding="ascii").split():
        raise _kind_of(bundle)(
            f"bundle {digest} is not the approved one",
            remedy="ask the coordinator which bundle to approve, and look into it",
        )
    return digest


def _kind_of(bundle: bytes) -> type[BundleRefused]:
    """What a refused bundle would have done, told from the names in it; nothing of it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return BundleRefused
    tops = {name.replace("\\", "/").split("/")[0].removesuffix(".py") for name in names if name not in _TEXTS}
    if tops & {"fedloupe", "fedloupe_client", "flwr", *packages_distributions(), *sys.stdlib_module_names}:
        return BundleShadows
    return BundleWithCode if any(name.endswith((".py", ".pyc", ".so", ".pth")) for name in names) else BundleRefused


def _not_installed(what: object, where: Path) -> BundleNotInstalled:
    return BundleNotInstalled(str(what), where=str(where), remedy="check paths, permissions and the bundle file")
