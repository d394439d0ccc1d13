"""Ingest a second time: what is taken over, what is done again, and why the bytes cannot tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ageing import age
from fedloupe_client.ingest import build as building
from fedloupe_client.ingest import ingest, load_store, work
from fedloupe_client.ingest.dicom import folders
from fedloupe_client.ingest.problems import IngestRunning, NotWritten, StoreLeaks, WorkerLost
from fedloupe_client.ingest.store import records
from fedloupe_client.ingest.store.lock import locked
from fedloupe_client.ingest.workers import mapping

SHAPE = (6, 12, 14)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def store_bytes(home: Path) -> dict[str, bytes]:
    folder = home / "store"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def undisturbed(config, study, home: Path, elsewhere: Path) -> dict[str, bytes]:
    """The store of a home that never ingested before, with the same secret."""
    elsewhere.mkdir()
    shutil.copyfile(home / "secret.key", elsewhere / "secret.key")
    ingest(config, study, elsewhere)
    return store_bytes(elsewhere)


@pytest.fixture
def images_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Local ids of the cases whose images are read."""
    seen: list[str] = []
    nifti, dicom = work.from_nifti, work.from_dicom

    def from_nifti(source, study, local, *drawer):
        seen.append(local)
        return nifti(source, study, local, *drawer)

    def from_dicom(source, study, local, slices, *drawer):
        seen.append(local)
        return dicom(source, study, local, slices, *drawer)

    monkeypatch.setattr(work, "from_nifti", from_nifti)
    monkeypatch.setattr(work, "from_dicom", from_dicom)
    return seen


@pytest.fixture
def files_hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = work.look

    def look(path):
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(work, "look", look)
    return seen


class TestOnlyWhatChanged:
    def test_a_second_run_opens_no_source_image(self, nifti_site, study, home, images_read, files_hashed):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        assert (len(images_read), len(files_hashed)) == (4, 12)
        before = store_bytes(home)
        ingest(nifti_site.config(), study, home)
        assert (len(images_read), len(files_hashed)) == (4, 12)
        assert store_bytes(home) == before

    def test_a_changed_image_is_read_and_no_other(self, nifti_site, study, home, tmp_path, images_read):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        images_read.clear()
        nifti_site.write("P-0002_adc", np.full(SHAPE, 1500, np.int16))
        ingest(nifti_site.config(), study, home)
        assert images_read == ["P-0002"]
        assert store_bytes(home) == undisturbed(nifti_site.config(), study, home, tmp_path / "other")

    def test_a_changed_row_concerns_its_case_only(self, nifti_site, study, home, tmp_path, images_read, by_local):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        images_read.clear()
        nifti_site.table("P-0001,good,61,T2", "P-0002,poor,56,T3", "P-0003,good,,", "P-0004,poor,70,T3")
        records = by_local(ingest(nifti_site.config(), study, home))
        assert images_read == ["P-0002"]
        assert records["P-0002"].clinical["age"] == 56.0
        assert store_bytes(home) == undisturbed(nifti_site.config(), study, home, tmp_path / "other")

    def test_another_mask_pattern_in_site_yaml_is_another_case(self, nifti_site, study, home, images_read):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        images_read.clear()
        for number in range(1, 5):
            shutil.copy2(nifti_site.path(f"P-000{number}_mask"), nifti_site.path(f"P-000{number}_drawn"))
        ingest(nifti_site.config(mask="data/{case}_drawn.nii.gz"), study, home)
        assert len(images_read) == 4

    def test_an_optional_image_that_arrives_later_is_taken(self, nifti_site, study, home, by_local):
        adc = nifti_site.path("P-0001_adc").read_bytes()
        nifti_site.path("P-0001_adc").unlink()
        age(nifti_site.root)
        assert by_local(ingest(nifti_site.config(), study, home))["P-0001"].sequences == ("t2w",)
        nifti_site.path("P-0001_adc").write_bytes(adc)
        assert by_local(ingest(nifti_site.config(), study, home))["P-0001"].sequences == ("t2w", "adc")

    def test_a_broken_case_is_looked_at_again_each_time(self, nifti_site, study, home, images_read):
        nifti_site.path("P-0001_mask").unlink()
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        images_read.clear()
        ingest(nifti_site.config(), study, home)
        assert images_read == ["P-0001"]

    def test_files_that_were_only_touched_are_hashed_and_not_read(
        self, nifti_site, study, home, images_read, files_hashed
    ):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        age(nifti_site.root, seconds=1800)
        files_hashed.clear()
        images_read.clear()
        ingest(nifti_site.config(), study, home)
        assert (len(files_hashed), images_read) == (12, [])

    def test_a_young_file_is_not_taken_on_trust(self, nifti_site, study, home, files_hashed):
        age(nifti_site.root, seconds=-3600)
        ingest(nifti_site.config(), study, home)
        files_hashed.clear()
        ingest(nifti_site.config(), study, home)
        assert len(files_hashed) == 12

    def test_a_change_that_keeps_size_and_time_is_found_by_verify(self, nifti_site, study, home, tmp_path, images_read):
        for number in range(1, 5):
            plain = nifti_site.root / "data" / f"P-000{number}_t2w.nii"
            plain.write_bytes(_unpacked(nifti_site.path(f"P-000{number}_t2w")))
        config = nifti_site.config(files={"t2w": "data/{case}_t2w.nii"})
        age(nifti_site.root)
        ingest(config, study, home)
        images_read.clear()
        first = nifti_site.root / "data" / "P-0001_t2w.nii"
        status = first.stat()
        content = bytearray(first.read_bytes())
        content[-2:] = b"\x55\x01"
        with first.open("r+b") as file:
            file.write(content)
        os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
        ingest(config, study, home)
        assert images_read == []
        ingest(config, study, home, verify=True)
        assert images_read == ["P-0001"]
        assert store_bytes(home) == undisturbed(config, study, home, tmp_path / "other")

    def test_dicom_headers_of_unchanged_files_are_not_read_again(self, dicom_site, study, home, monkeypatch):
        dicom_site.two_patients()
        age(dicom_site.root)
        ingest(dicom_site.config(), study, home)
        before = store_bytes(home)
        read = []
        real = folders.read_headers
        monkeypatch.setattr(folders, "read_headers", lambda path, *rest: read.append(path.name) or real(path, *rest))
        ingest(dicom_site.config(), study, home)
        assert (read, store_bytes(home)) == ([], before)
        changed = sorted((dicom_site.root / "images" / "P-0001" / "t2w").iterdir())[0]
        os.utime(changed, (time.time() - 60, time.time() - 60))
        ingest(dicom_site.config(), study, home)
        assert (read, store_bytes(home)) == ([changed.name], before)


def _unpacked(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


class TestTheStoreIsWhole:
    def test_nothing_is_kept_twice(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        images = list((home / "store").rglob("*.nii.gz"))
        assert len(images) == 12
        assert {path.stat().st_nlink for path in images} == {2}

    def test_a_damaged_or_lost_file_of_the_store_is_made_again(self, nifti_site, study, home):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        before = store_bytes(home)
        first, second = sorted((home / "store").rglob("*.nii.gz"))[:2]
        first.write_bytes(b"damaged")
        second.unlink()
        ingest(nifti_site.config(), study, home)
        assert store_bytes(home) == before

    def test_what_is_no_longer_needed_is_removed(self, nifti_site, study, home):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        nifti_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        ingest(nifti_site.config(), study, home)
        assert len(list((home / "ingest" / "cases").iterdir())) == 2

    def test_a_damaged_memory_is_begun_anew(self, nifti_site, study, home):
        age(nifti_site.root)
        ingest(nifti_site.config(), study, home)
        before = store_bytes(home)
        (home / "ingest" / "files.sqlite").write_bytes(b"no database" * 1000)
        ingest(nifti_site.config(), study, home)
        assert store_bytes(home) == before

    def test_packed_files_hold_neither_time_nor_name(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        for path in (home / "store").rglob("*.nii.gz"):
            # RFC 1952: magic, deflate, no flags, time zero
            assert path.read_bytes()[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"

    def test_a_reader_waits_for_a_living_swap(self, nifti_site, study, home, monkeypatch):
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            if sum(waited) >= 0.2 and (home / "store.old").exists():
                (home / "store.old").rename(home / "store")

        ingest(nifti_site.config(), study, home)
        (home / "store").rename(home / "store.old")
        monkeypatch.setattr("fedloupe_client.ingest.store.records.time", SimpleNamespace(sleep=sleep))
        with locked(home):
            assert len(load_store(home).ready) == 4
        assert sum(waited) >= 0.2

    def test_a_reader_waits_for_a_swap_that_begins_while_it_looks(self, nifti_site, study, home, monkeypatch):
        ingest(nifti_site.config(), study, home)
        real = records._await_swap

        def meanwhile(home):
            real(home)
            monkeypatch.setattr(records, "_await_swap", real)
            (home / "store").rename(home / "store.old")

        monkeypatch.setattr(records, "_await_swap", meanwhile)
        assert len(load_store(home).ready) == 4

    def test_a_source_that_changes_while_it_is_read_is_no_case(self, nifti_site, study, home, by_local, monkeypatch):
        real = work.from_nifti

        def touched(source, study, local, *drawer):
            case = real(source, study, local, *drawer)
            if local == "P-0001":
                nifti_site.write("P-0001_adc", np.full(SHAPE, 1400, np.int16))
            return case

        monkeypatch.setattr(work, "from_nifti", touched)
        records = by_local(ingest(nifti_site.config(), study, home))
        assert (records["P-0001"].code, records["P-0001"].kind) == ("FL-263", "corruption")

    def test_an_identifier_on_its_way_into_the_store_stops_it(self, nifti_site, study, home, monkeypatch):
        ingest(nifti_site.config(), study, home)
        before = store_bytes(home)
        real = work.from_nifti

        def talkative(source, study, local, *drawer):
            case = real(source, study, local, *drawer)
            return type(case)(case.volumes, case.mask, (f"chosen for {local}",))

        monkeypatch.setattr(work, "from_nifti", talkative)
        nifti_site.table("P-0001,good,62,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")
        with pytest.raises(StoreLeaks, match="P-0001"):
            ingest(nifti_site.config(), study, home)
        assert store_bytes(home) == before

    def test_an_identifier_in_the_images_stops_it(self, nifti_site, study, home, monkeypatch):
        real = work.from_nifti

        def talkative(source, study, local, *drawer):
            case = real(source, study, local, *drawer)
            case.volumes["P-0001"] = case.volumes["t2w"]  # becomes a file name
            return case

        monkeypatch.setattr(work, "from_nifti", talkative)
        with pytest.raises(StoreLeaks):
            ingest(nifti_site.config(), study, home)
        assert not list((home / "ingest" / "cases").glob("*/P-0001*"))
        assert not (home / "store").exists()

    def test_a_full_disk_is_said_as_such_and_is_no_case_s_fault(self, nifti_site, study, home, monkeypatch):
        ingest(nifti_site.config(), study, home)
        before = store_bytes(home)
        nifti_site.write("P-0002_adc", np.full(SHAPE, 1500, np.int16))

        def full(path: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fedloupe_client.ingest.store.shelf.sync", full)
        with pytest.raises(NotWritten, match="free disk space"):
            ingest(nifti_site.config(), study, home)
        assert store_bytes(home) == before


class TestOneAtATime:
    def test_a_second_ingest_is_refused_with_the_first_one_s_process(self, nifti_site, study, home):
        code = "import fcntl, os, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        code += "file.write(str(os.getpid()))\nfile.flush()\nprint('held', flush=True)\ntime.sleep(60)\n"
        (home / "ingest").mkdir(parents=True)
        lock = home / "ingest" / "lock"
        with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
            with pytest.raises(IngestRunning) as caught:
                ingest(nifti_site.config(), study, home)
            assert f"process {holder.pid}" in caught.value.where
            assert "wait" in caught.value.remedy
            assert not (home / "store").exists()
            holder.kill()
            holder.wait()
        assert str(holder.pid) == lock.read_text()  # it could not clean up, and need not
        assert ingest(nifti_site.config(), study, home).statuses["ready"] == 4

    def test_the_lock_names_its_process(self, home):
        with locked(home):
            assert (home / "ingest" / "lock").read_text() == str(os.getpid())

    def test_the_lock_is_free_after_an_error(self, nifti_site, study, home, monkeypatch):
        def crash(_: object) -> None:
            raise OSError("gone")

        with monkeypatch.context() as patched:
            patched.setattr(building, "do", crash)
            with pytest.raises(OSError, match="gone"):
                ingest(nifti_site.config(), study, home)
        assert ingest(nifti_site.config(), study, home).statuses["ready"] == 4


def end_itself(number: int) -> int:
    os._exit(number)


def double(number: int) -> int:
    return 2 * number


class TestWorkers:
    def test_results_carry_their_place(self):
        with mapping(1) as mapper:
            assert list(mapper(double, [5, 6])) == [(0, 10), (1, 12)]

    def test_a_lost_worker_is_an_error_with_a_remedy(self):
        with mapping(2) as mapper, pytest.raises(WorkerLost, match="workers"):
            list(mapper(end_itself, [1, 2]))


class TestFindings:
    def test_the_most_urgent_kind_comes_first(self, nifti_site, study, home, refuse_reading):
        nifti_site.table(
            "P-0001,good,61,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,maybe,70,T3", "P-0005,poor,1,"
        )
        for kind in ("t2w", "adc", "mask"):
            shutil.copy2(nifti_site.path(f"P-0002_{kind}"), nifti_site.path(f"P-0005_{kind}"))
        nifti_site.path("P-0001_mask").unlink()
        refuse_reading(nifti_site.path("P-0002_t2w"))
        report = ingest(nifti_site.config(), study, home)
        assert list(report.findings) == ["permission", "mislabelled", "absence"]
        assert [r.code for group in report.findings.values() for r in group] == ["FL-203", "FL-214", "FL-230"]
        assert {r.kind for r in report.records if r.status == "ready"} == {None}
