"""The repository keeps its promises: walls between packages, no machine's paths or hosts, pages that match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fedloupe.study import load_study
from fedloupe_client.config import SiteConfig
from fedloupe_server.simulation.cohort import DEMO_SITES, CohortSpec, oracle_table
from fedloupe_server.simulation.generating import Generate

ROOT = Path(__file__).parents[1]
SOURCES = {
    "fedloupe": ROOT / "shared" / "src" / "fedloupe",
    "fedloupe_client": ROOT / "client" / "src" / "fedloupe_client",
    "fedloupe_server": ROOT / "server" / "src" / "fedloupe_server",
}
DISTRIBUTIONS = ("shared", "client", "server")
LONGEST = 400
LONG_WITH_A_REASON = {
    "client/src/fedloupe_client/ingest/problems.py": "a list: some fifty classes of five lines, one for each finding",
}


def repository_files() -> list[Path]:
    """What git tracks or would track; without git, everything that is not a build output."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=False
    )
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    hidden = {".venv", ".git", "__pycache__", "demo", "runs"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not hidden & set(p.relative_to(ROOT).parts)]


def texts() -> Iterator[tuple[str, str]]:
    for path in repository_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture


def imported(path: Path) -> set[str]:
    """Every absolute module name that a file imports, at its top or within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(package: str, wanted: str) -> set[str]:
    """Files of a package, relative to it, that import `wanted` or something below it."""
    root = SOURCES[package]
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(name == wanted or name.startswith(f"{wanted}.") for name in imported(path))
    }


def useful_cohort() -> CohortSpec:
    """The cohort of `configs/modality-useful-ct.yaml`, as its sites file has it generated."""
    study, file = (ROOT / "configs" / f"modality-useful-ct{end}" for end in (".yaml", ".sites.yaml"))
    generate = yaml.safe_load(file.read_text(encoding="utf-8"))["generate"]
    return Generate.model_validate(generate).cohort(load_study(study), file)


class TestWalls:
    def test_the_shared_package_knows_neither_side_nor_flower(self):
        for other in ("fedloupe_client", "fedloupe_server", "flwr"):
            assert importers("fedloupe", other) == set(), other

    def test_the_client_does_not_know_the_server(self):
        assert importers("fedloupe_client", "fedloupe_server") == set()

    def test_flower_is_imported_in_the_courier_and_the_hub_only(self):
        client, server = importers("fedloupe_client", "flwr"), importers("fedloupe_server", "flwr")
        assert client and server, "the walk found no Flower at all: it looks in the wrong place"
        assert all(name.startswith("courier/") for name in client), client
        assert all(name.startswith("hub/") for name in server), server

    def test_the_server_reaches_the_client_through_simulation_and_the_in_process_grid_only(self):
        doors = importers("fedloupe_server", "fedloupe_client")
        assert doors
        assert all(name.startswith("simulation/") or name == "hub/inprocess.py" for name in doors), doors

    def test_the_site_process_side_of_the_client_does_not_know_the_courier(self):
        doors = importers("fedloupe_client", "fedloupe_client.courier")
        assert all(name.startswith("courier/") for name in doors), doors


class TestSources:
    def test_nothing_is_unpickled(self):
        calls = re.compile(r"(?<!un)pickle\.loads?\(|torch\.load\(|allow_pickle=True|joblib\.load\(")
        found = [f for f, text in texts() if f.endswith(".py") and "/src/" in f and calls.search(text)]
        assert not found

    def test_no_process_is_started_that_would_import_from_the_current_folder(self):
        starts = re.compile(r"sys\.executable, \"-(?!P\")")
        assert [f for f, text in texts() if f.endswith(".py") and "/src/" in f and starts.search(text)] == []

    def test_every_module_says_what_it_is_for(self):
        bare = [
            str(path.relative_to(ROOT))
            for root in SOURCES.values()
            for path in root.rglob("*.py")
            if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        ]
        assert not bare

    def test_a_file_stays_short_or_gives_a_reason(self):
        long = {
            f for f, text in texts() if f.endswith(".py") and text.count("\n") > LONGEST and f not in LONG_WITH_A_REASON
        }
        assert not long


class TestWhatAHospitalInstalls:
    def test_client_and_shared_need_no_file_beyond_their_own_folders(self):
        """The client's image is built from these two folders alone: a link out of them would dangle there."""
        for room in (ROOT / "client", ROOT / "shared"):
            links = [path for path in (room / "src").rglob("*") if path.is_symlink()]
            assert [path for path in links if not path.resolve().is_relative_to(room)] == []
        assert (ROOT / "client/src/fedloupe_client/ingest/dicom/series-rules.yaml").is_file()


class TestNothingOfThisMachine:
    HOSTS = re.compile(
        r"index[-_]url|find[-_]links|pythonhosted|pypi\.org|"
        r"\b(pypi|files|download|conda|registry|mirrors?)\.[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]+/",
        re.IGNORECASE,
    )
    PATHS = re.compile(r"(?<![\w./-])/(work|root|home/\w+)/|/tmp/dev\b|/opt/(wheels|pypi)")
    OWN = "tests/test_repository.py"

    def test_no_registry_host_or_index_is_named(self):
        assert [f for f, text in texts() if f != self.OWN and self.HOSTS.search(text)] == []

    def test_no_absolute_path_of_a_machine(self):
        assert [f for f, text in texts() if f != self.OWN and self.PATHS.search(text)] == []

    @pytest.mark.parametrize("text", ["--{}-{} x".format("index", "url"), "PIP_{}_{}=/x".format("FIND", "LINKS")])
    def test_the_pattern_for_hosts_finds_options(self, text: str):
        assert self.HOSTS.search(text)

    @pytest.mark.parametrize("kind", ["pypi", "files", "download", "conda", "registry", "mirror"])
    def test_the_pattern_for_hosts_finds_each_kind(self, kind: str):
        assert self.HOSTS.search(f"https://{kind}.example.org/simple")

    @pytest.mark.parametrize("text", ["open('/work/x')", " /root/x", "cd /tmp/dev"])
    def test_the_pattern_for_paths_finds_them(self, text: str):
        assert self.PATHS.search(text)


class TestPackaging:
    @staticmethod
    def project(name: str) -> dict:
        return tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    @staticmethod
    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[A-Za-z0-9_.-]+", line).group().lower() for line in requirements}

    def pins(self) -> dict[str, str]:
        lines = [
            line
            for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
            if line and line[0] != "#"
        ]
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines), (
            "exact pins, no local version"
        )
        return {re.sub(r"[-_.]+", "-", n.lower()): v for n, v in (line.split("==") for line in lines)}

    @pytest.mark.parametrize("distribution", DISTRIBUTIONS)
    def test_every_dependency_is_explained_and_pinned(self, distribution: str):
        project = self.project(distribution)
        extras = project.get("optional-dependencies", {}).values()
        names = self.names([*project["dependencies"], *(line for extra in extras for line in extra)])
        page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
        assert {name for name in names if f"| `{name}` |" not in page} == set()
        ours = {"fedloupe", "fedloupe-client", "fedloupe-server"}
        pins = self.pins()
        assert {name for name in names - ours if re.sub(r"[-_.]+", "-", name) not in pins} == set()

    def test_every_tool_for_tests_is_explained_and_pinned(self):
        lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
        names = self.names([line for line in lines if line and not line.startswith("#")])
        page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
        assert {name for name in names if f"`{name}`" not in page or name not in self.pins()} == set()

    def test_no_package_under_the_gpl_is_pinned(self):
        assert not {"pylibjpeg-libjpeg", "pyqt5", "pyqt6"} & set(self.pins())

    def test_the_distributions_have_one_version(self):
        assert len({self.project(name)["version"] for name in DISTRIBUTIONS}) == 1

    def test_each_package_names_the_licence_of_the_repository(self):
        assert {self.project(name)["license"] for name in DISTRIBUTIONS} == {"Apache-2.0"}
        assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


class TestPages:
    def test_the_page_of_errors_is_current(self):
        script = ROOT / "docs" / "generate_errors.py"
        done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_make_targets_named_in_pages_exist(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        named = {
            (f, target)
            for f, text in texts()
            if f.endswith(".md")
            for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
        }
        assert {"demo", "test"} <= {target for f, target in named if f == "README.md"}
        assert {(f, target) for f, target in named if target not in targets} == set()

    def test_commands_named_in_pages_exist(self):
        from typer.main import get_command

        from fedloupe_client.cli import app as site
        from fedloupe_server.cli import app as coordinator

        known = {"fedloupe": set(get_command(coordinator).commands), "fedloupe-site": set(get_command(site).commands)}
        named = {
            (f, tool, word)
            for f, text in texts()
            if f.endswith(".md")
            for tool, word in re.findall(r"(?:^|`|bin/)(fedloupe(?:-site)?) ([a-z]+)", text, re.MULTILINE)
        }
        assert named
        assert {item for item in named if item[2] not in known[item[1]]} == set()

    def test_links_between_pages_lead_somewhere(self):
        pages = [path for path in repository_files() if path.suffix == ".md"]
        dead = [
            (path.name, link)
            for path in pages
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
            if "://" not in link and not (path.parent / link).exists()
        ]
        assert dead == []

    def test_synthetic_data_are_called_synthetic_where_the_demo_is_shown(self):
        for page in ("README.md", "docs/demo.md"):
            assert "synthetic" in (ROOT / page).read_text(encoding="utf-8").lower()

    def test_the_table_of_synthetic_hospitals_is_that_of_the_generator(self):
        page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (\w+) \| (train|validate)[a-z ]* \| (\d+) \|", page, re.MULTILINE)
        assert rows == [(site.name, site.role, str(site.patients)) for site in DEMO_SITES]

    def test_the_table_of_hospitals_with_ct_is_that_of_the_generator(self):
        page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (\w+) \| (\d+) \| (yes|no) \| (train|validate)s[a-z ]* \|$", page, re.MULTILINE)
        sites = useful_cohort().sites
        assert rows == [(s.name, str(s.patients), "yes" if s.has_ct else "no", s.role) for s in sites]

    def test_what_polarity_and_calcification_are_worth_is_what_the_oracle_says(self):
        page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (\d+) % \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \|$", page, re.MULTILINE)
        plain, useful = (
            {(r.prevalence, r.known): f"{r.auc:.3f}" for r in oracle_table(calcification=weight)}
            for weight in (None, useful_cohort().calcification)
        )
        shares, best = {"25": 0.25, "40": 0.40, "55": 0.55}, "everything"
        assert rows == [
            *((s, plain[p, best], plain[p, "all but polarity"], plain[p, "clinical only"]) for s, p in shares.items()),
            *((s, useful[p, best], useful[p, "all but calcification"], plain[p, best]) for s, p in shares.items()),
        ]

    @pytest.mark.parametrize(
        "page",
        [
            "README.md",
            "docs/index.md",
            "docs/hospital.md",
            "docs/segmentation.md",
            "docs/coordinator.md",
            "docs/statistics.md",
            "docs/radiomics.md",
        ],
    )
    def test_pages_say_that_this_is_for_research(self, page: str):
        assert "research use only" in (ROOT / page).read_text(encoding="utf-8").lower()


class TestConfigurations:
    @pytest.mark.parametrize(
        "name",
        [
            "demo.yaml",
            "demo-large.yaml",
            "demo-large-private.yaml",
            "modality-useful-ct.yaml",
            "modality-useless-ct.yaml",
            "study-example.yaml",
            "sarcoma-mri.yaml",
            "glioma-radiomics.yaml",
            "glioma-baselines.yaml",
            "heart.yaml",
            "segmentation.yaml",
        ],
    )
    def test_every_study_that_is_shipped_is_valid(self, name: str):
        assert re.fullmatch(r"[0-9a-f]{64}", load_study(ROOT / "configs" / name).fingerprint)

    def test_every_site_configuration_that_is_shown_is_valid(self):
        page = (ROOT / "docs" / "hospital.md").read_text(encoding="utf-8")
        examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        examples.append((ROOT / "configs" / "site-example.yaml").read_text(encoding="utf-8"))
        formats = [SiteConfig.model_validate(yaml.safe_load(text)).source.format for text in examples]
        assert formats == ["dicom", "nifti", "table", "dicom"]

    def test_the_example_shows_every_key_of_a_study(self):
        study = load_study(ROOT / "configs" / "study-example.yaml")
        content = yaml.safe_load((ROOT / "configs" / "study-example.yaml").read_text(encoding="utf-8"))
        assert set(type(study).model_fields) - set(content) == set()
        for part in ("imaging", "radiomics", "model", "training", "quorum", "split", "evaluation"):
            missing = set(type(getattr(study, part)).model_fields) - set(content[part]) - {"reference_score"}
            assert missing == set(), part

    def test_the_embedded_settings_are_those_in_configs(self):
        embedded = SOURCES["fedloupe_server"] / "simulation"
        for name in ("demo.yaml", "radiomics-small.yaml"):
            assert (embedded / name).read_bytes() == (ROOT / "configs" / name).read_bytes()
