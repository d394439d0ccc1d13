"""Which features repeat: ICC of 15 prostate T2 MRI scanned twice, and of 49 sarcoma T1 MRI perturbed (real data).

    FEDLOUPE_DATA=... python benchmarks/quality.py [testretest | perturbed] [--spacing 2] [--largest-ml 2000]

Uses what sites and coordinator use: `open_case`, `perturbed`, `repeat_sums`, `judge`. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import SimpleITK as sitk

from fedloupe.features import feature_table, parse_settings
from fedloupe.metrics import intraclass, repeat_sums
from fedloupe.models import standardise
from fedloupe.quality import Row, Verdict, by_family, by_filter, judge, verdicts
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.imaging import open_case
from fedloupe_client.quality.perturbing import perturbed
from fedloupe_client.radiomics import extract_case
from fedloupe_server.statistics.quality import Greedy, blocks

ROOT = Path(__file__).resolve().parents[1]
TABLE = "tables/qin_prostate_testretest/pyRadiomicsFeatures_biasCorrectedT2AX_FullStudySettings_3D_bin10.csv.gz"


def scaled(values: np.ndarray) -> np.ndarray:
    """(n, p, k) centred and scaled by feature, so that sums of squares keep their digits."""
    scale = np.nanstd(values, axis=(0, 2), keepdims=True)
    return (values - np.nanmean(values, axis=(0, 2), keepdims=True)) / np.where(scale > 0, scale, np.nan)


def share(icc: np.ndarray, limit: float) -> str:
    return f"{100 * np.mean(np.nan_to_num(icc, nan=-1) >= limit):.0f} %"


def test_retest(data: Path) -> None:
    """Each structure apart: 15 patients, two scans, features as published (PyRadiomics, bin width 10)."""
    table = pd.read_csv(data / TABLE, sep=";", compression="gzip")
    names = [c for c in table.columns if "_" in c and not c.startswith("general_info")]
    names = [c for c in names if pd.api.types.is_numeric_dtype(table[c])]
    patient = table["study"].str.split("_").str[0]
    kinds = {name: name.split("_")[:2] for name in names}
    structures = {
        "whole gland": "WholeGland",
        "peripheral zone": "PeripheralZone",
        "tumour": "TumorROI",
        "normal": "NormalROI",
    }
    columns: dict[str, tuple[int, np.ndarray]] = {}
    for label, start in structures.items():
        rows = table["segmentedStructure"].str.startswith(start)
        groups = table[rows].groupby([patient[rows], "segmentedStructure"])
        pairs = [
            g.sort_values("study")[names].to_numpy(float) for _, g in groups if g["study"].nunique() == len(g) == 2
        ]
        values = np.stack(pairs).transpose(0, 2, 1)
        columns[label] = (len(pairs), intraclass(repeat_sums(scaled(values)), "one-way").value)
    print(
        "| features | n | "
        + " | ".join(f"{s}, {n} pairs: ICC >= 0.75 / median" for s, (n, _) in columns.items())
        + " |"
    )
    print("|---|---|" + "---|" * len(columns))

    def line(label: str, mask: np.ndarray) -> None:
        cells = [f"{share(icc[mask], 0.75)} / {np.nanmedian(icc[mask]):.2f}" for _, icc in columns.values()]
        print(f"| {label} | {mask.sum()} | " + " | ".join(cells) + " |")

    for place in (1, 0):
        for kind in dict.fromkeys(k[place] for k in kinds.values()):
            line(kind, np.array([kinds[name][place] == kind for name in names]))
    line("all", np.ones(len(names), bool))
    for label, (_, icc) in columns.items():
        print(
            f"{label}: {(icc > 0.85).sum()} features above 0.85, {(icc < 0).sum()} below 0, lowest {np.nanmin(icc):.2f}"
        )


def sarcoma_study(spacing: float) -> Study:
    """`configs/sarcoma-mri.yaml` with the default perturbations on another grid."""
    content = json.loads(load_study(ROOT / "configs" / "sarcoma-mri.yaml").canonical)
    content["imaging"] = {"spacing_mm": spacing, "crop_mm": 32, "bias_correction": "none", "interpolation": "cubic"}
    return parse_study({**content, "quality": {"patients": 1000}})


def versions(study: Study, folder: Path, largest_ml: float) -> np.ndarray:
    """(patients, features, versions) of the sarcomas up to a volume."""
    settings, cases = parse_settings(study.radiomics.settings), pd.read_csv(folder / "cases.csv")
    found, spent = [], []
    for case in cases[cases.gtv_ml <= largest_ml]["case"]:
        start = time.process_time()
        paths = {kind: folder / f"{case}_{kind}.nii.gz" for kind in ("T1", "gtv")}
        store = SimpleNamespace(
            volume=lambda *_, p=paths: sitk.ReadImage(str(p["T1"])),
            mask=lambda _, p=paths: sitk.ReadImage(str(p["gtv"]), sitk.sitkUInt8) > 0,
        )
        opened = open_case(store, SimpleNamespace(case=str(case), sequences=("t1",)), study)
        grid = opened.grid()
        rows = [extract_case(grid.images, grid.mask, grid.spacing_mm, settings, grid.intensities).values]
        codes = []
        for values, code in perturbed(opened, study, str(case)):
            rows.append(values)
            codes.append(code)
        found.append(np.stack(rows, axis=1))
        spent.append(time.process_time() - start)
        print(case, grid.mask.sum(), f"{spent[-1]:.1f} s", [c for c in codes if c], file=sys.stderr, flush=True)
    print(f"{sum(spent) / len(spent):.1f} CPU s a patient")
    return np.stack(found)


def perturbation(data: Path, spacing: float, largest_ml: float, kept_at: Path | None) -> None:
    """ICC over the default perturbations, by filter and family, and what redundancy leaves."""
    study = sarcoma_study(spacing)
    names = feature_table(parse_settings(study.radiomics.settings), ["t1"]).names
    if kept_at and kept_at.exists():
        values = np.load(kept_at)
    else:
        values = versions(study, data / "images" / "sts_mr_crops", largest_ml)
    if kept_at:
        np.save(kept_at, values)
    judged = judge(repeat_sums(scaled(values)), study.quality)
    judgement = verdicts(names, judged, np.nanstd(values[:, :, 0], axis=0) == 0)
    print(f"{len(values)} patients, {spacing:g} mm, {len(names)} features")
    for rows_by in (by_filter, by_family):
        print_rows(rows_by(judgement, 0.75), judgement, rows_by, "features")
    original = [v for v in judgement if "|original|" in v.name]
    print_rows(by_family(original, 0.75), original, by_family, "original")
    stable = sum(v.stable for v in judgement)
    kept = {limit: not_redundant(values[:, :, 0], judgement, limit) for limit in (0.99, 0.95, 0.9)}
    print(
        f"\nall: ICC >= 0.9 {share(judged.repeat.value, 0.9)}, >= 0.75 {share(judged.repeat.value, 0.75)}; "
        f"of {len(names)} features {stable} stable, of these not redundant (by limit) {kept}"
    )


def not_redundant(table: np.ndarray, judgement: tuple[Verdict, ...], limit: float) -> int:
    """How many stable features the federation's greedy rule keeps, these patients being one site."""
    mean, spread = np.nanmean(table, axis=0), np.nanstd(table, axis=0, ddof=1)
    z, there, greedy = standardise(table, mean, spread), np.isfinite(table).astype(float), Greedy(limit)
    for block in blocks(judgement):
        rows = np.concatenate([greedy.earlier, block])
        sums = {"pairs": there[:, rows].T @ there[:, block], "product": z[:, rows].T @ z[:, block]}
        greedy.judge(block, [SimpleNamespace(**sums, total=z[:, block].sum(axis=0), patients=len(z))])
    return len(greedy.kept)


def print_rows(rows: tuple[Row, ...], judgement: list, rows_by, label: str) -> None:
    kinds = ("pose", "contour", "noise", "bins")
    print(
        f"\n| {label} | n | ICC >= 0.9 | >= 0.75 | median | "
        + " | ".join(f"{k} >= 0.75" for k in kinds)
        + " | stable |"
    )
    print("|---|---|---|---|---|" + "---|" * len(kinds) + "---|")
    for row in rows:
        members = [v for v in judgement if rows_by([v], 0.75)[0].group == row.group]
        icc = np.array([np.nan if v.icc is None else v.icc for v in members])
        high, enough, middle = share(icc, 0.9), share(icc, 0.75), f"{np.nanmedian(icc):.2f}"
        shares = " | ".join(f"{100 * row.kinds.get(kind, 0):.0f} %" for kind in kinds)
        stable = f"{100 * row.stable / row.offered:.0f} %"
        print(f"| {row.group} | {row.offered} | {high} | {enough} | {middle} | {shares} | {stable} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("testretest", "perturbed"))
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--largest-ml", type=float, default=5000.0)
    parser.add_argument("--values", type=Path, help="keep the values here (.npy), and take them from here")
    arguments = parser.parse_args()
    if "FEDLOUPE_DATA" not in os.environ:
        print("skipped: set FEDLOUPE_DATA to the folder of the real data")
        sys.exit()
    root = Path(os.environ["FEDLOUPE_DATA"])
    if arguments.what != "perturbed":
        test_retest(root)
    if arguments.what != "testretest":
        perturbation(root, arguments.spacing, arguments.largest_ml, arguments.values)
