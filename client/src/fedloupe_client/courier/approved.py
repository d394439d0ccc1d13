"""The hospital's Flower home: it holds the one app bundle that the hospital approved; nothing else is ever installed.

    prepare(Path("flower-home"), Path("fedloupe.fedloupe.0-1-0.1f2e3d4c.fab"))
    environment(Path("flower-home"))        # for flower-supernode: its commands are found in flower-home/bin first

Flower puts a bundle's folder first on the import path, so code in a bundle would win over what is installed. Here a
bundle runs only when its whole SHA-256 stands in `flower-home/approved`; a read-only mount of the folder is a second
lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from fedloupe.errors import FedLoupeError

# Started by Flower's executor for tasks that a hospital has no use for: agents, models, connectors, server apps.
_REFUSED = ("flwr-agentapp", "flwr-model", "flwr-connector", "flwr-serverapp", "flwr-simulation")
_LAUNCHER = """#!{python}
from fedloupe_client.courier.approved import launch

launch()
"""
_REFUSER = """#!/bin/sh
echo "FedLoupe: this hospital's courier runs client apps only" >&2
exit 1
"""


class BundleRefused(FedLoupeError):
    """The coordinator submitted a bundle that this hospital did not approve."""

    code = "FL-628"
    title = "app bundle not approved by this site"


class BundleNotInstalled(FedLoupeError):
    """The approved bundle could not be put into the Flower home."""

    code = "FL-629"
    title = "app bundle cannot be installed"


def environment(home: Path) -> dict[str, str]:
    """Environment of `flower-supernode`: private home, own launcher first, nothing that calls out."""
    tools = Path(sys.executable).parent
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "PATH": f"{home / 'bin'}:{tools}:{os.environ.get('PATH', os.defpath)}",
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
    """
    try:
        release(home)
        (home / "bin").mkdir(parents=True)
        digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
        (home / "approved").write_text(digest + "\n", encoding="ascii")
        for name, text in {
            "flwr-clientapp": _LAUNCHER.format(python=sys.executable),
            **dict.fromkeys(_REFUSED, _REFUSER),
        }.items():
            (home / "bin" / name).write_text(text, encoding="ascii")
    except OSError as error:
        raise BundleNotInstalled(str(error), where=str(home), remedy="check the paths and their permissions") from None
    with tempfile.TemporaryDirectory(prefix="fedloupe-") as scratch:
        copy = Path(scratch) / _name_of(bundle, digest)
        shutil.copyfile(bundle, copy)
        command = [str(Path(sys.executable).parent / "flwr"), "install", str(copy)]
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode or not any((home / "apps").glob(f"*.{digest[:8]}")):
        what = " ".join((done.stdout + done.stderr).split())[-300:]
        raise BundleNotInstalled(what, where=str(bundle), remedy="ask the coordinator for the bundle file again")
    for folder, _, files in os.walk(home):
        for name in files:
            (Path(folder) / name).chmod(0o555 if Path(folder).name == "bin" else 0o444)
        Path(folder).chmod(0o555)
    return digest


def _name_of(bundle: Path, digest: str) -> str:
    """The only file name under which Flower installs a bundle, whatever it was sent as."""
    try:
        with zipfile.ZipFile(bundle) as content, content.open("pyproject.toml") as file:
            about = tomllib.loads(file.read(65_536).decode("utf-8"))
        parts = (about["tool"]["flwr"]["app"]["publisher"], about["project"]["name"], about["project"]["version"])
        name = ".".join(str(part).replace(".", "-") for part in parts)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError):
        name = ""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
        raise BundleNotInstalled("not an app bundle", where=str(bundle), remedy="ask the coordinator for it again")
    return f"{name}.{digest[:8]}.fab"


def release(home: Path) -> None:
    """Remove a prepared home: its folders are read-only, so they are opened first."""
    if home.is_dir():
        for folder, _, _ in os.walk(home):
            Path(folder).chmod(0o755)
        shutil.rmtree(home)


def require_approved(bundle: bytes, home: Path) -> Path:
    """The installed folder of an approved bundle; what arrived is never unpacked.

    Raises:
        BundleRefused: its SHA-256 is not in `home/approved`, or its folder is not in `home/apps`.
    """
    digest = hashlib.sha256(bundle).hexdigest()
    approved = home / "approved"
    installed = sorted((home / "apps").glob(f"*.{digest[:8]}"))
    if not approved.is_file() or digest not in approved.read_text(encoding="ascii").split() or len(installed) != 1:
        raise BundleRefused(
            f"bundle {digest} is not the approved one",
            remedy="ask the coordinator which bundle to approve, and look into it",
        )
    return installed[0]


def launch() -> None:
    """`flwr-clientapp`, with the installation of arriving bundles replaced by `require_approved`.

    Flower 1.41 offers no public hook here (its `--trusted-entities` refuses every locally submitted bundle), so one of
    its names is replaced; a test with real processes shows the refusal.
    """
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    home = Path(os.environ["FLWR_HOME"])

    def approved_only(fab_file: bytes, install_dir: Path | None = None, skip_prompt: bool = False) -> Path:
        try:
            return require_approved(fab_file, home)
        except BundleRefused as refused:
            # Flower sends the text of this exception to the coordinator: code and title only.
            raise PermissionError(f"{refused.code} {refused.title}") from None

    if not hasattr(run_clientapp, "install_from_fab"):  # a Flower that changed must not run unguarded
        raise BundleRefused("Flower has changed inside", remedy="install the Flower version that FedLoupe pins")
    run_clientapp.install_from_fab = approved_only
    flwr_clientapp()
