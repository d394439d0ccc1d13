"""The Flower home around one approved bundle, and the supervisor of the SuperNode."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from fedloupe_client.courier.approved import (
    BundleNotInstalled,
    BundleRefused,
    environment,
    prepare,
    release,
    require_approved,
)
from fedloupe_client.courier.supervise import Supernode, supervise


@pytest.fixture
def home(tmp_path):
    """A home as `prepare` leaves it, without Flower's installer."""
    digest = hashlib.sha256(b"bundle").hexdigest()
    (tmp_path / "apps" / f"fedloupe.fedloupe.0.1.0.{digest[:8]}").mkdir(parents=True)
    (tmp_path / "approved").write_text(digest + "\n")
    return tmp_path


class TestApproval:
    def test_the_approved_bundle_runs_from_the_installed_folder(self, home):
        assert require_approved(b"bundle", home).parent == home / "apps"

    def test_another_bundle_is_refused(self, home):
        with pytest.raises(BundleRefused, match="FL-628"):
            require_approved(b"bundle with code", home)

    def test_a_bundle_that_shares_only_the_short_hash_is_refused(self, home):
        # Flower itself compares eight hexadecimal digits, which can be forged.
        forged = hashlib.sha256(b"forged").hexdigest()
        (home / "apps" / f"fedloupe.fedloupe.0.1.0.{forged[:8]}").mkdir()
        with pytest.raises(BundleRefused):
            require_approved(b"forged", home)

    def test_without_a_list_nothing_runs(self, home):
        (home / "approved").unlink()
        with pytest.raises(BundleRefused):
            require_approved(b"bundle", home)

    def test_a_file_that_is_no_bundle_is_not_installed(self, tmp_path):
        (tmp_path / "x.fab").write_bytes(b"not a zip")
        with pytest.raises(BundleNotInstalled, match="FL-629"):
            prepare(tmp_path / "home", tmp_path / "x.fab")

    def test_an_absent_bundle_is_named(self, tmp_path):
        with pytest.raises(BundleNotInstalled, match=r"absent\.fab"):
            prepare(tmp_path / "home", tmp_path / "absent.fab")

    def test_a_bundle_is_installed_whatever_its_file_is_called(self, tmp_path):
        """Flower installs `publisher.name.version.hash.fab` alone; hospitals get `fedloupe.fab`."""
        shutil.copytree(Path(__file__).parents[3] / "configs" / "app", tmp_path / "app")
        flwr = str(Path(sys.executable).parent / "flwr")
        subprocess.run([flwr, "build", "--app", "."], cwd=tmp_path / "app", env=environment(tmp_path), check=True)
        (built,) = (tmp_path / "app").glob("*.fab")
        content = built.read_bytes()
        bundle = built.rename(tmp_path / "fedloupe.fab")
        assert prepare(tmp_path / "home", bundle) == hashlib.sha256(content).hexdigest()
        assert require_approved(content, tmp_path / "home").name.startswith("fedloupe.fedloupe.0.1.0.")
        release(tmp_path / "home")

    def test_a_read_only_home_can_be_made_anew(self, home):
        (home / "apps").chmod(0o555)
        release(home)
        assert not home.exists()

    def test_our_launcher_comes_before_flowers(self, home):
        env = environment(home)
        assert env["PATH"].split(":")[:2] == [str(home / "bin"), str(Path(sys.executable).parent)]
        assert env["FLWR_TELEMETRY_ENABLED"] == "0"


class TestSupervision:
    supernode = Supernode("localhost:443", Path("ca.crt"), Path("courier.key"), Path("/run/site.sock"), Path("home"))

    def program(self, text):
        return lambda _: subprocess.Popen([sys.executable, "-c", text])

    def test_a_refused_start_is_tried_again_after_the_delay(self):
        stop, starts = threading.Event(), []

        def start(supernode):
            starts.append(time.monotonic())
            if len(starts) == 3:
                stop.set()
            return self.program("raise SystemExit(1)")(supernode)

        codes = supervise(self.supernode, stop, start=start, delay_s=0.3)
        assert len(codes) == 3
        assert codes[:2] == [1, 1]
        assert min(b - a for a, b in pairwise(starts)) >= 0.3

    def test_stopping_ends_the_process(self):
        stop, begun = threading.Event(), []

        def start(supernode):
            begun.append(self.program("import time; time.sleep(60)")(supernode))
            return begun[-1]

        threading.Timer(0.3, stop.set).start()
        assert supervise(self.supernode, stop, start=start) == [-15]
        assert begun[0].poll() == -15

    def test_the_supernode_listens_on_loopback_and_never_without_tls(self):
        command = self.supernode.command
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert command[command.index("--node-config") + 1] == 'site-socket="/run/site.sock"'
        assert "--insecure" not in command
        assert "--allow-runtime-dependency-installation" not in command
