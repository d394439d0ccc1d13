"""How fast is ingest, against a plain serial SimpleITK script that does the same job?

python benchmarks/ingest.py                       # FEDLOUPE_DATA set: ProstateX-like DICOM; always: the synthetic demo
python benchmarks/ingest.py --cases 12 --workers 2

The script reads every series' headers, chooses T2w and ADC by description (the later of two), reads them with GDCM,
checks the mask's grid, and writes compressed NIfTI. It neither checks geometry, rescales units, hashes, drops
identity, resumes nor explains; ingest does. Both run as processes of their own, timed from start to end; peak memory
is the largest sum of resident sets of the process and its children, seen every 50 ms.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pydicom
import SimpleITK as sitk
import yaml
from pydicom.uid import generate_uid

PROSTATEX = {"ProstateX-0000": "11373_1001396", "ProstateX-0001": "10795_1000811"}
KINDS = {"t2w": r"t2.?tse.?tra", "adc": r"ADC"}
STUDY = {
    "study": "throughput",
    "title": "Throughput",
    "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
    "sequences": [{"name": "t2w"}, {"name": "adc", "intensity": "physical", "required": False}],
    "aggregation": "plain",
    "sites": [{"name": "north", "role": "train"}],
    "radiomics": {"source": "none"},
    "quorum": {"minimum": 1},
}


def make_dicom(data: Path, root: Path, cases: int) -> None:
    """Copies of two ProstateX patients under new ids and UIDs, each with its prostate mask."""
    for archive in PROSTATEX:
        with tarfile.open(data / "images" / "prostatex" / f"{archive}_mpMRI.tar.xz") as file:
            file.extractall(root / "originals", filter="data")
    (root / "masks").mkdir()
    lines = ["case,response"]
    masks = data / "images" / "prostatex" / "picai_labels" / "whole_gland_Bosma22b"
    for number in range(cases):
        original = list(PROSTATEX)[number % len(PROSTATEX)]
        case = f"COPY-{number:04d}"
        for path in sorted((root / "originals" / original).rglob("*.dcm")):
            one = pydicom.dcmread(path)
            one.PatientID = case
            for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
                if tag in one:
                    setattr(one, tag, generate_uid(entropy_srcs=[case, str(one[tag].value)]))
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            target = root / "images" / case / path.relative_to(root / "originals" / original)
            target.parent.mkdir(parents=True, exist_ok=True)
            one.save_as(target)
        shutil.copy(masks / f"{PROSTATEX[original]}.nii.gz", root / "masks" / f"{case}.nii.gz")
        lines.append(f"{case},{'yes' if number % 2 else 'no'}")
    (root / "clinical.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(root / "originals")


def make_demo(root: Path, site: str, scale: float) -> tuple[dict[str, object], dict[str, object]]:
    """One NIfTI hospital of the synthetic demo: its `source` and the demo's study, as for YAML."""
    from fedloupe_server.simulation.cohort import generate_cohort
    from fedloupe_server.simulation.cohort.files import site_configuration
    from fedloupe_server.simulation.demo import demo_cohort, demo_study

    spec = demo_cohort(1, scale)
    generate_cohort(root, spec, site=site, workers=2)
    source = dict(site_configuration(spec.site(site))["source"])
    source["root"] = str((root / site / str(source["root"])).resolve())
    return source, demo_study(1).model_dump(mode="json")


def serial_dicom(root: Path, out: Path) -> None:
    """The plain script, on DICOM folders."""
    for patient in sorted((root / "images").iterdir()):
        target = out / patient.name
        target.mkdir(parents=True)
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        for folder in sorted(path for path in patient.rglob("*") if path.is_dir()):
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
                names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
                header = sitk.ImageFileReader()
                header.SetFileName(names[0])
                header.ReadImageInformation()
                for kind, pattern in KINDS.items():
                    at = header.GetMetaData("0008|0032")
                    if re.search(pattern, header.GetMetaData("0008|103e")) and at > found.get(kind, ("",))[0]:
                        found[kind] = (at, names)
        images = {}
        for kind, (_, names) in found.items():
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(names)
            images[kind] = reader.Execute()
        _write(images, sitk.ReadImage(str(root / "masks" / f"{patient.name}.nii.gz")), target)


def serial_nifti(source: dict[str, object], out: Path) -> None:
    """The plain script, on NIfTI files."""
    root, files = Path(str(source["root"])), dict(source["files"])  # type: ignore[call-overload]
    first, last = str(source["mask"]).split("{case}")
    pattern = re.compile(re.escape(first) + r"(?P<case>[^/]+)" + re.escape(last).replace(re.escape("{case}"), "[^/]+"))
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        fits = pattern.fullmatch(str(path.relative_to(root)))
        if fits:
            case = fits["case"]
            (out / case).mkdir(parents=True)
            there = {name: root / str(file).replace("{case}", case) for name, file in files.items()}
            images = {name: sitk.ReadImage(str(file)) for name, file in there.items() if file.exists()}
            _write(images, sitk.ReadImage(str(path)), out / case)


def _write(images: dict[str, sitk.Image], mask: sitk.Image, target: Path) -> None:
    first = images["t2w"]
    shift = max(abs(a - b) for a, b in zip(mask.GetOrigin(), first.GetOrigin(), strict=True))
    if mask.GetSize() != first.GetSize() or shift > 1e-2:
        raise SystemExit(f"{target.name}: the mask lies elsewhere")
    for name, image in {**images, "mask": sitk.Cast(mask != 0, sitk.sitkUInt8)}.items():
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        sitk.WriteImage(image, str(target / f"{name}.nii.gz"), useCompression=True)


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MB of a command and its children."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(_resident(pid) for pid in _family(process.pid)))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.monotonic() - began, peak / 1e6


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def compare(
    title: str, folder: Path, source: dict[str, object], study: dict[str, object], site: str, ways: list[int]
) -> None:
    """Run both on one hospital, and print a line each."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "source.yaml").write_text(yaml.safe_dump(source))
    rows = []
    plain = [sys.executable, __file__, "--serial", str(folder)]
    measure(plain)  # warms the disk's cache for everybody
    shutil.rmtree(folder / "serial")
    rows.append(("serial script", *measure(plain)))
    cases = len(list((folder / "serial").iterdir()))
    tool = [sys.executable, "-m", "fedloupe_client.cli", "ingest"]
    for workers in ways:
        home = folder / f"home-{workers}"
        home.mkdir()
        (home / "site.yaml").write_text(yaml.safe_dump({"site": site, "source": source}))
        command = [*tool, str(home), str(folder / "study.yaml"), "--workers", str(workers)]
        rows.append((f"ingest, {workers} workers", *measure(command)))
        done = len(list((home / "store" / "cases").iterdir()))
        if done != cases:
            raise SystemExit(f"ingest made {done} cases, the script {cases}")
    rows.append(("ingest again, nothing changed", *measure(command)))
    print(f"\n{title}: {cases} cases\n\n| what | s | cases a minute | of the script | peak MB |\n|---|---|---|---|---|")
    for name, seconds, peak in rows:
        print(f"| {name} | {seconds:.1f} | {60 * cases / seconds:.0f} | {rows[0][1] / seconds:.2f} x | {peak:.0f} |")


def main() -> None:
    """Both comparisons, or (`--serial`) the plain script alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=24, help="copies of ProstateX patients")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--site", default="", help="demo hospital; its first NIfTI one if not given")
    parser.add_argument("--scale", type=float, default=1.0, help="patients of the demo hospital, times")
    parser.add_argument("--serial", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serial:
        source = yaml.safe_load((given.serial / "source.yaml").read_text())
        if source["format"] == "dicom":
            serial_dicom(Path(source["root"]), given.serial / "serial")
        else:
            serial_nifti(source, given.serial / "serial")
        return
    data = os.environ.get("FEDLOUPE_DATA")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if data:
            root = folder / "prostatex" / "hospital"
            root.mkdir(parents=True)
            make_dicom(Path(data), root, given.cases)
            source = {
                "format": "dicom",
                "root": str(root),
                "clinical": {"file": "clinical.csv"},
                "images": "images",
                "series": KINDS,
                "mask": "masks/{case}.nii.gz",
            }
            compare("ProstateX-like DICOM", folder / "prostatex", source, STUDY, "north", given.workers)
        else:
            print("FEDLOUPE_DATA is not set: the ProstateX-like comparison is left out")
        site = given.site or _first_nifti()
        (folder / "demo").mkdir()
        source, study = make_demo(folder / "demo" / "cohort", site, given.scale)
        compare(f"synthetic demo, hospital `{site}`", folder / "demo", source, study, site, given.workers)


def _first_nifti() -> str:
    from fedloupe_server.simulation.demo import demo_cohort

    return next(site.name for site in demo_cohort(1).sites if site.format == "nifti")


if __name__ == "__main__":
    main()
