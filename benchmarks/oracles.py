"""Does FedLoupe's engine agree with two that others wrote, on real MRI, feature by feature?

make bench-radiomics-env                     # once: .venv-oracles with Z-Rad and pictologics, for development only
FEDLOUPE_DATA=... make bench-oracles         # the 49 sarcoma MRIs, some minutes
python benchmarks/oracles.py --golden tests/client/radiomics/oracles.json     # the synthetic cases of the tests

Each image is put on the grid once, by FedLoupe, and cut to the tumour and what surrounds it; from there every engine
filters, discretises and computes by itself, in a process of its own. A value agrees where it differs by at most 1e-3
of the larger of the two magnitudes. What differs by more is listed, by feature, with how far.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from safetensors.numpy import load_file, save_file

from engines.cases import FILTERS, oracle_cases, oracle_job
from engines.job import Job
from engines.names import family, ours, theirs
from engines.rules import by_their_rules
from fedloupe.features import FEATURES
from fedloupe_client.imaging.resampling import common_region, mask_onto, onto, upright

HERE = Path(__file__).parent
ORACLES = HERE.parent / ".venv-oracles" / "bin" / "python"
TOLERANCE = 1e-3
OURS = ("run_ours", "run_sequence")
ORACLE_SCRIPTS = ("run_zrad", "run_pictologics")
LAWS = ["L5L5E5", "L5E5E5", "L5S5S5"]
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PICTOLOGICS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Difference:
    """One value that two engines give: whose, of which case, `FILTER|TAG`, ours and theirs."""

    case: str
    name: str
    ours: float
    theirs: float

    @property
    def kind(self) -> str:
        """What it is listed under: the feature, and for rings its family."""
        image, tag = self.name.split("|")
        return f"simoncelli {family(tag)}" if image.startswith("simoncelli") else f"{image.split('_')[0]} {tag}"

    @property
    def relative(self) -> float:
        """Of the larger magnitude; infinite where only one of the two is a number."""
        if np.isnan(self.ours) and np.isnan(self.theirs):
            return 0.0
        if not (np.isfinite(self.ours) and np.isfinite(self.theirs)):
            return float("inf")
        largest = max(abs(self.ours), abs(self.theirs))
        return abs(self.ours - self.theirs) / largest if largest else 0.0


def ask(script: str, job: Job, folder: Path, **environment: str) -> dict[str, object]:
    """Start an engine of `engines/` in the environment that holds it."""
    python = sys.executable if script in OURS else str(ORACLES)
    if not Path(python).exists():
        raise SystemExit("there is no .venv-oracles: run `make bench-radiomics-env` first")
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    command = [python, "-m", f"engines.{script}", str(folder / "job.json"), str(folder / "answer.json")]
    chosen = {**os.environ, **QUIET, "PICTOLOGICS_DISABLE_WARMUP": "1", **environment}
    done = subprocess.run(command, cwd=HERE, env=chosen, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-3000:]}")
    return json.loads((folder / "answer.json").read_text())


def sarcomas(data: Path, folder: Path, spacing_mm: float, most: int) -> dict[str, str]:
    """The sarcoma MRIs on the isotropic grid, one file a case."""
    cases = {}
    for path in sorted((data / "images" / "sts_mr_crops").glob("*_T1.nii.gz"))[:most]:
        case = path.name.removesuffix("_T1.nii.gz")
        image = upright(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32))
        tumour = upright(sitk.ReadImage(str(path.with_name(f"{case}_gtv.nii.gz"))) > 0)
        region = common_region(image, tumour, spacing_mm=spacing_mm, margin_mm=25.0, cube_mm=0.0)
        arrays = {"image": onto(region, image).astype(np.float64), "mask": mask_onto(region, tumour).astype(np.uint8)}
        save_file(arrays, folder / f"{case}.safetensors")
        cases[case] = str(folder / f"{case}.safetensors")
    return cases


def compare(
    mine: dict[str, dict[str, float]], engine: str, oracle: dict[str, dict[str, float]]
) -> Iterable[Difference]:
    """Every value that both engines give."""
    for case, values in mine.items():
        given = {name: value for key, value in oracle[case].items() if (name := theirs(engine, key))}
        for column, value in values.items():
            name = ours(column)
            if name in given:
                yield Difference(case, name, value, given[name])


def table(engine: str, differences: list[Difference], otherwise: dict[tuple[str, str], float]) -> None:
    """By image and family: how many, how many agree; then what does not, by feature.

    Args:
        engine: whose values the differences are to.
        differences: all values.
        otherwise: our value by the oracle's own rule, by case and name, where its rule is another.
    """
    print(f"\n**{engine}**\n\n| images | family | values | within 1e-3 | within 1e-6 | same by its rule | differ |")
    print("|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[Difference]] = defaultdict(list)
    for one in differences:
        image, tag = one.name.split("|")
        groups[image.split("_")[0], family(tag)].append(one)
    far = [one for one in differences if one.relative > TOLERANCE]
    ruled = {
        one
        for one in far
        if (one.case, one.name) in otherwise and replace(one, ours=otherwise[one.case, one.name]).relative <= TOLERANCE
    }
    for (image, name), members in [*groups.items(), (("all", ""), differences)]:
        relative = np.array([one.relative for one in members])
        near, nearer = int((relative <= TOLERANCE).sum()), int((relative <= 1e-6).sum())
        same = sum(one in ruled for one in members)
        print(f"| {image} | {name} | {len(members)} | {near} | {nearer} | {same} | {len(members) - near - same} |")
    for title, chosen in (
        ("same by its rule", [one for one in far if one in ruled]),
        ("that differ", [one for one in far if one not in ruled]),
    ):
        print(f"\nValues {title}: {len(chosen)}\n")
        alike: dict[str, list[Difference]] = defaultdict(list)
        for one in chosen:
            alike[one.kind].append(one)
        for kind, members in sorted(alike.items(), key=lambda item: -len(item[1])):
            relative = [one.relative for one in members]
            worst = max(members, key=lambda one: one.relative)
            print(
                f"- {kind}: {len(members)}, median {np.median(relative):.1e}; most in {worst.case} {worst.name}, "
                f"{worst.ours:.6g} against {worst.theirs:.6g} ({worst.relative:.1e})"
            )


def write_golden(target: Path) -> None:
    """The oracles' values of the synthetic cases that the tests hold us to."""
    with tempfile.TemporaryDirectory() as made:
        folder, cases = Path(made), {}
        for name, (image, mask) in oracle_cases().items():
            cases[name] = str(folder / f"{name}.safetensors")
            save_file({"image": image, "mask": mask.astype(np.uint8)}, cases[name])
        job = oracle_job(cases)
        golden = {}
        for script in ORACLE_SCRIPTS:
            answer = ask(script, job, folder)
            golden[answer["engine"]] = {
                case: {
                    name: float(f"{value:.12g}")
                    for key, value in values.items()
                    if (name := theirs(str(answer["engine"]), key)) and name.split("|")[0] in FILTERS
                }
                for case, values in answer["values"].items()
            }
    target.write_text(json.dumps(golden, indent=0) + "\n")


def _by_rule(cases: dict[str, str], job: Job, engine: str) -> dict[tuple[str, str], float]:
    found = {}
    for case, file in cases.items():
        arrays = load_file(file)
        values = by_their_rules(arrays["image"], arrays["mask"] > 0, job, engine)
        found |= {(case, name): value for name, value in values.items()}
    return found


def main() -> None:
    """The comparison on the sarcomas, or the golden values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacing", type=float, default=2.0, help="grid, mm")
    parser.add_argument("--cases", type=int, default=49, help="how many of the sarcomas")
    parser.add_argument("--oracles", nargs="+", choices=ORACLE_SCRIPTS, default=ORACLE_SCRIPTS, help="all of them")
    parser.add_argument("--golden", type=Path, help="write the oracles' values of the tests' synthetic cases there")
    given = parser.parse_args()
    data = os.environ.get("FEDLOUPE_DATA")
    if given.golden:
        write_golden(given.golden)
        return
    if not data or not ORACLES.exists():
        print("left out: needs FEDLOUPE_DATA, and .venv-oracles from `make bench-radiomics-env`")
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        cases = sarcomas(Path(data), folder, given.spacing, given.cases)
        job = Job(cases, given.spacing, list(FEATURES), [2.0, 3.0, 5.0], "coif1", 32, [1, 2, 3], LAWS)
        mine = ask("run_ours", job, folder)["values"]
        for script in given.oracles:
            answer = ask(script, job, folder)
            differences = list(compare(mine, str(answer["engine"]), answer["values"]))
            title = f"{answer['engine']}, {len(cases)} cases at {given.spacing:g} mm"
            table(title, differences, _by_rule(cases, job, str(answer["engine"])))


if __name__ == "__main__":
    main()
