"""The Flower home: the digest of one approved bundle, which holds two texts and no code."""

from __future__ import annotations

import hashlib
import zipfile

import pytest

from fedloupe_client.courier.approved import (
    BundleHoldsMore,
    BundleNotInstalled,
    BundleRefused,
    environment,
    prepare,
    release,
    require_approved,
)


@pytest.fixture
def home(tmp_path):
    """A home in which the four bytes `text` are approved, as `prepare` would leave it."""
    (tmp_path / "approved").write_text(hashlib.sha256(b"text").hexdigest() + "\n")
    return tmp_path


def bundle(path, **more):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {"pyproject.toml": "[project]", "LICENSE": "free", ".info/CONTENT": "list", **more}.items():
            archive.writestr(name, text)
    return path


class TestApproval:
    def test_the_approved_bundle_passes(self, home):
        assert require_approved(b"text", home) == hashlib.sha256(b"text").hexdigest()

    def test_another_bundle_is_refused(self, home):
        with pytest.raises(BundleRefused, match="FL-628"):
            require_approved(b"text with code", home)

    def test_a_bundle_that_shares_only_the_short_hash_is_refused(self, home):
        # Flower itself compares eight hexadecimal digits, which can be forged.
        (home / "approved").write_text(hashlib.sha256(b"text").hexdigest()[:8] + "0" * 56 + "\n")
        with pytest.raises(BundleRefused):
            require_approved(b"text", home)

    def test_a_digest_that_is_cut_short_approves_nothing(self, home):
        (home / "approved").write_text(hashlib.sha256(b"text").hexdigest()[:8] + "\n")
        with pytest.raises(BundleRefused):
            require_approved(b"text", home)

    def test_two_bundles_may_be_approved_at_once(self, home):
        with (home / "approved").open("a") as approved:
            approved.write(hashlib.sha256(b"next version").hexdigest() + "\n")
        assert require_approved(b"text", home) != require_approved(b"next version", home)

    def test_without_a_list_nothing_passes(self, home):
        (home / "approved").unlink()
        with pytest.raises(BundleRefused):
            require_approved(b"text", home)


class TestPreparation:
    def test_the_home_approves_exactly_this_file_and_is_read_only(self, tmp_path):
        file, home = bundle(tmp_path / "x.fab"), tmp_path / "deep" / "home"
        assert prepare(home, file) == require_approved(file.read_bytes(), home)
        assert {path.stat().st_mode & 0o222 for path in (home, *home.iterdir())} == {0}

    @pytest.mark.parametrize(
        "name", ["fedloupe_client/courier/app.py", "sitecustomize.py", "x.pth", "pyproject.toml/x"]
    )
    def test_a_bundle_with_anything_else_in_it_is_not_offered_for_approval(self, tmp_path, name):
        with pytest.raises(BundleHoldsMore, match="FL-675") as raised:
            prepare(tmp_path / "home", bundle(tmp_path / "x.fab", **{name: "print()"}))
        assert name in raised.value.what
        assert not (tmp_path / "home").exists()

    def test_a_file_that_is_no_bundle_is_not_installed(self, tmp_path):
        (tmp_path / "x.fab").write_bytes(b"not a zip")
        with pytest.raises(BundleNotInstalled, match="FL-629"):
            prepare(tmp_path / "home", tmp_path / "x.fab")

    def test_an_absent_bundle_is_named(self, tmp_path):
        with pytest.raises(BundleNotInstalled, match=r"absent\.fab"):
            prepare(tmp_path / "home", tmp_path / "absent.fab")

    def test_a_read_only_home_can_be_made_anew(self, tmp_path):
        home = tmp_path / "home"
        prepare(home, bundle(tmp_path / "x.fab"))
        file = bundle(tmp_path / "y.fab", LICENSE="freer")
        prepare(home, file)
        require_approved(file.read_bytes(), home)
        with pytest.raises(BundleRefused):
            require_approved((tmp_path / "x.fab").read_bytes(), home)
        release(home)
        assert not home.exists()

    def test_nothing_of_the_courier_calls_out(self, tmp_path):
        env = environment(tmp_path)
        assert (env["FLWR_TELEMETRY_ENABLED"], env["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
        assert env["FLWR_HOME"] == str(tmp_path)
