"""The `flwr` command of the coordinator: bundle, register, submit, look; each a subprocess in a private Flower home.

flower = Flower(home=Path("work/flower"), authority=Path("work/tls/ca.crt"), port=8000)
bundle = flower.build(Path("work/app"))
node = flower.register(Path("north/courier.pub"), "north")
run = flower.submit(Path("work/app"), {"task": "ping", ...})
flower.status(run)                                      # "finished:completed"
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloupe.errors import FedLoupeError

COMMAND_TIMEOUT_S = 120.0
_CLIENT_APP = "fedloupe_client/courier/app.py"


class FlowerRefused(FedLoupeError):
    """A `flwr` command failed."""

    code = "FL-731"
    title = "a Flower command failed"


class BundleMissing(FedLoupeError):
    """There is no app bundle's source where it should be."""

    code = "FL-732"
    title = "the app bundle's source is not there"


def tool(name: str) -> str:
    """Path of a command installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def environment(home: Path) -> dict[str, str]:
    """Environment of the coordinator's Flower processes: private home, nothing that calls out."""
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def stage(source: Path, target: Path) -> Path:
    """Copy the bundle's two files to a folder of our own, for `flwr` rewrites some pyproject files.

    Where the coordinator has no `fedloupe-client`, an empty stand-in lets `flwr` find the name; `fab-include` keeps it
    out of the bundle, whose bytes stay the same.

    Raises:
        BundleMissing: `pyproject.toml` or `LICENSE` is not in `source`.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in ("pyproject.toml", "LICENSE"):
        if not (source / name).is_file():
            raise BundleMissing(
                f"no {name}", where=str(source), remedy="give the folder configs/app of the FedLoupe release"
            )
        shutil.copyfile(source / name, target / name)
    if importlib.util.find_spec("fedloupe_client") is None:
        stand_in = target / _CLIENT_APP
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text("app = None\n", encoding="ascii")
    return target


@dataclass(frozen=True)
class Flower:
    """One SuperLink as the coordinator's command line sees it.

    Attributes:
        home: private `FLWR_HOME`.
        authority: CA certificate of the SuperLink.
        port: its loopback port.
    """

    home: Path
    authority: Path
    port: int

    def configure(self) -> None:
        """Write the connection into the Flower home."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "lab"\n\n[superlink.lab]\naddress = "127.0.0.1:{self.port}"\n'
            f"root-certificates = {json.dumps(str(self.authority))}\n",
            encoding="utf-8",
        )

    def build(self, app: Path) -> Path:
        """The `.fab` file of a staged bundle, which hospitals approve."""
        self._run("build", "--app", str(app), cwd=app)
        return max(app.glob("*.fab"), key=lambda file: file.stat().st_mtime_ns)

    def register(self, public_key: Path, site: str) -> int:
        """Register a hospital's public key; its node id."""
        answer = self._json("supernode", "register", str(public_key), "lab", "--name", site)
        return int(answer["node-id"])

    def online(self) -> set[int]:
        """Nodes that are connected now."""
        answer = self._json("supernode", "list", "lab")
        return {int(node["node-id"]) for node in answer["nodes"] if node["status"] == "online"}

    def submit(self, app: Path, run_config: Mapping[str, str]) -> int:
        """Start a run of a staged bundle; its id. Keys must stand in the bundle's configuration."""
        override = self.home / "run-config.toml"
        lines = [f"{key} = {json.dumps(value)}" for key, value in sorted(run_config.items())]
        override.write_text("\n".join(lines) + "\n", encoding="utf-8")
        answer = self._json("run", str(app), "lab", "--run-config", str(override))
        return int(answer["run-id"])

    def status(self, run: int) -> str:
        """`pending`, `starting`, `running`, or `finished:` and `completed`, `failed` or `stopped`."""
        answer = self._json("ls", "lab", "--run-id", str(run))
        return str(answer["runs"][0]["status"])

    def log(self, run: int) -> str:
        """What the ServerApp of a run wrote."""
        return self._run("log", str(run), "lab", "--show")

    def stop(self, run: int) -> None:
        """Stop a run."""
        self._json("stop", str(run), "lab")

    def _json(self, *arguments: str) -> dict[str, Any]:
        output = self._run(*arguments, "--format", "json")
        answer: dict[str, Any] = json.loads(output[output.index("{") :])
        if not answer.get("success", False):
            raise FlowerRefused(
                " ".join(str(answer).split())[-400:], where=f"flwr {arguments[0]}", remedy="read the SuperLink's log"
            )
        return answer

    def _run(self, *arguments: str, cwd: Path | None = None) -> str:
        try:
            done = subprocess.run(
                [tool("flwr"), *arguments],
                env=environment(self.home),
                cwd=cwd,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise FlowerRefused("no answer", where=f"flwr {arguments[0]}", remedy="read the SuperLink's log") from None
        if done.returncode:
            what = " ".join((done.stdout + done.stderr).split())[-400:]
            raise FlowerRefused(what, where=f"flwr {arguments[0]}", remedy="read the SuperLink's log")
        return done.stdout
