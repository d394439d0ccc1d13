"""Images and compose files: what can be checked of them without Docker, against the code that they start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from commands import parsed
from fedloupe_server.hub import proxy, service

COMPOSE = {"hospital": "compose.hospital.yaml", "coordinator": "compose.coordinator.yaml"}
IMAGES = {"fedloupe-site": "site", "fedloupe-courier": "courier", "fedloupe-server": None}
HOME, COURIER, FED, SOCKET = "/srv/fedloupe", "/srv/courier", "/srv/federation", "/run/fedloupe"


@pytest.fixture(scope="module")
def services(docker):
    return {
        side: yaml.safe_load((docker / file).read_text(encoding="utf-8"))["services"] for side, file in COMPOSE.items()
    }


@pytest.fixture(scope="module")
def everything(services):
    return {name: one for side in services.values() for name, one in side.items()}


def mounts(one: dict) -> dict[str, tuple[str, bool]]:
    """Target to source and whether it may be written."""
    found = {}
    for volume in one["volumes"]:
        plain = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", volume)
        source, target, *mode = plain.split(":")
        found[target] = (source, mode != ["ro"])
    return found


def stages(path: Path) -> dict[str, list[str]]:
    """Instructions of each stage of a Dockerfile, its base's included."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("FROM "):
            words = line.split()
            base, name = words[1], words[3] if len(words) > 3 else ""
            found[name] = list(found.get(base, []))
        elif line and not line.startswith("#") and name in found:
            found[name].append(line)
    return found


def last(instructions: list[str], word: str) -> str:
    return [line for line in instructions if line.startswith(f"{word} ")][-1]


def final(docker: Path, image: str) -> list[str]:
    """Instructions of the stage that an image is made of."""
    file = "server.Dockerfile" if image == "fedloupe-server" else "client.Dockerfile"
    return stages(docker / file)[IMAGES[image] or ""]


class TestEveryContainer:
    def test_is_locked_down(self, everything):
        assert len(everything) == 7
        for name, one in everything.items():
            assert one["read_only"] and one["cap_drop"] == ["ALL"], name
            assert one["security_opt"] == ["no-new-privileges:true"], name
            assert one["user"].split(":")[0] not in ("0", "root"), name
            assert "privileged" not in one and "pid" not in one and "ipc" not in one, name

    def test_gets_back_one_right_at_most(self, everything):
        assert {name: one["cap_add"] for name, one in everything.items() if "cap_add" in one} == {
            "caddy": ["NET_BIND_SERVICE"]
        }

    def test_runs_a_command_of_ours_as_our_command_line_takes_it(self, docker, everything):
        ours = {name: one for name, one in everything.items() if one["image"] in IMAGES}
        assert len(ours) == 5
        for name, one in ours.items():
            given = one.get("command") or json.loads(last(final(docker, one["image"]), "CMD")[4:])
            words = [*one.get("entrypoint", []), *given]
            found = parsed(words)
            paths = [word for word in words if word.startswith("/")]
            assert paths and all(any(path.startswith(target) for target in mounts(one)) for path in paths), name
            assert found["command"] in ("start", "courier", "status"), name

    def test_is_built_from_a_stage_that_exists(self, docker, everything):
        for one in everything.values():
            if "build" in one:
                file = docker.parent / one["build"]["dockerfile"]
                assert one["build"].get("target", "") in stages(file)
                assert one["build"].get("target") == IMAGES[one["image"]]

    def test_names_the_version_of_another_peoples_image(self, everything):
        others = {one["image"] for one in everything.values()} - set(IMAGES)
        assert others and all(re.fullmatch(r"[a-z]+:\d+\.\d+", image) for image in others)


class TestTheHospital:
    def test_the_site_has_no_network_and_nobody_listens(self, services):
        hospital = services["hospital"]
        assert hospital["site"]["network_mode"] == hospital["setup"]["network_mode"] == "none"
        assert not any("ports" in one or "expose" in one for one in hospital.values())

    def test_the_courier_sees_no_data_and_writes_its_notes_alone(self, services):
        found = mounts(services["hospital"]["courier"])
        assert {target: writes for target, (_, writes) in found.items()} == {
            COURIER: False,
            f"{COURIER}/state": True,
            SOCKET: True,
        }
        home, data = (mounts(services["hospital"]["site"])[target][0] for target in (HOME, "/data"))
        assert not {home, data} & {source for source, _ in found.values()}

    def test_the_site_does_not_see_the_couriers_key_and_changes_no_image(self, services):
        found = mounts(services["hospital"]["site"])
        assert COURIER not in found and found["/data"][1] is False

    def test_the_sites_clock_is_in_the_zone_that_the_hospital_names(self, services):
        assert services["hospital"]["site"]["environment"]["TZ"] == "${TZ:-UTC}"

    def test_both_meet_at_one_socket(self, services):
        site, courier = (services["hospital"][name] for name in ("site", "courier"))
        assert mounts(site)[SOCKET] == mounts(courier)[SOCKET] == ("socket", True)
        assert site["user"] == courier["user"], "the socket belongs to one user"

    def test_setup_is_started_by_a_person_alone(self, services):
        setup = services["hospital"]["setup"]
        assert setup["profiles"] == ["setup"] and "restart" not in setup

    def test_loopback_never_goes_through_the_hospitals_proxy(self, services):
        assert "127.0.0.1" in services["hospital"]["courier"]["environment"]["NO_PROXY"]


class TestTheCoordinator:
    def test_only_the_proxys_port_is_published(self, docker, services):
        coordinator = services["coordinator"]
        published = {name: one["ports"] for name, one in coordinator.items() if "ports" in one}
        assert set(published) == {"coordinator", "coordinator-behind"}
        inner = {ports[0].rsplit(":", 1)[1] for ports in published.values() if len(ports) == 1}
        assert inner == {"8443"}
        assert parsed(coordinator["coordinator"]["command"])["port"] == 8443
        assert "listen 8443 ssl" in (docker / "nginx.conf").read_text(encoding="utf-8")
        assert "\n:8443 {" in (docker / "Caddyfile").read_text(encoding="utf-8")

    def test_superlink_listens_on_the_loopback_that_the_proxies_share(self, docker, services):
        coordinator = services["coordinator"]
        behind = parsed(coordinator["coordinator-behind"]["command"])
        assert behind["no_proxy"] and not parsed(coordinator["coordinator"]["command"])["no_proxy"]
        for name in ("nginx", "caddy"):
            assert coordinator[name]["network_mode"] == "service:coordinator-behind"
        for file in ("nginx.conf", "Caddyfile"):
            assert f"https://127.0.0.1:{behind['superlink_port']}" in (docker / file).read_text(encoding="utf-8")
        code = Path(service.__file__).read_text(encoding="utf-8")
        assert '("--host", "127.0.0.1", "--port", str(self.ports.superlink))' in code

    def test_the_proxies_see_the_tls_files_and_no_other_key(self, services):
        for name in ("nginx", "caddy"):
            found = mounts(services["coordinator"][name])
            assert not any(writes for _, writes in found.values())
            assert {source for source, _ in found.values() if "federation" in source} == {"./federation/tls"}

    def test_each_profile_is_one_door(self, services):
        doors = {
            profile: {name for name, one in services["coordinator"].items() if profile in one["profiles"]}
            for profile in ("embedded", "nginx", "caddy")
        }
        assert doors == {
            "embedded": {"coordinator"},
            "nginx": {"coordinator-behind", "nginx"},
            "caddy": {"coordinator-behind", "caddy"},
        }

    def test_both_proxies_forward_what_the_codes_own_forwards(self, docker):
        route = f"^{proxy._FLEET.pattern.decode()}$"
        assert f'"{route}"' in (docker / "nginx.conf").read_text(encoding="utf-8")
        assert f"{{http.request.uri}} {route}\n" in (docker / "Caddyfile").read_text(encoding="utf-8")


class TestEveryImage:
    @pytest.mark.parametrize("image", sorted(IMAGES))
    def test_asks_for_health_and_not_for_life(self, docker, image):
        check = last(final(docker, image), "HEALTHCHECK")
        found = parsed(json.loads(check.split(" CMD ", 1)[1]))
        assert found["command"] == "health"
        if image != "fedloupe-server":
            assert found["part"] == IMAGES[image]
            assert found["folders"] == (HOME if image == "fedloupe-site" else COURIER,)

    @pytest.mark.parametrize("image", sorted(IMAGES))
    def test_runs_as_a_user_who_is_not_root(self, docker, image):
        assert re.fullmatch(r"USER 1000[12]:1000[12]", last(final(docker, image), "USER"))

    def test_the_site_has_no_flower(self, docker):
        text = (docker / "client.Dockerfile").read_text(encoding="utf-8")
        copied = {
            name: [x for x in lines if "--from" in x] for name, lines in stages(docker / "client.Dockerfile").items()
        }
        assert copied["site"] == ["COPY --from=strip-site /opt/fedloupe /opt/fedloupe"]
        assert "FROM build-site AS strip-site" in text
        build = [line for line in stages(docker / "client.Dockerfile")["strip-site"] if "[courier]" in line]
        assert build == []

    @pytest.mark.parametrize("file", ["client.Dockerfile", "server.Dockerfile"])
    def test_its_base_is_one_version_that_a_digest_can_replace(self, docker, file):
        text = (docker / file).read_text(encoding="utf-8")
        assert re.search(r"^ARG BASE=python:3\.11-slim-[a-z]+$", text, re.MULTILINE)
        bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - set(stages(docker / file))
        assert bases == {"${BASE}"}

    @pytest.mark.parametrize("file", ["client.Dockerfile", "server.Dockerfile"])
    def test_what_it_copies_is_let_into_the_context(self, docker, file):
        allowed = {
            line[1:] for line in (docker / f"{file}.dockerignore").read_text().splitlines() if line.startswith("!")
        }
        copied = re.findall(r"^COPY (?!--from)(\S+) ", (docker / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert copied
        for name in copied:
            assert (docker.parent / name).exists() and name.split("/")[0] in allowed, name

    @pytest.mark.parametrize("file", ["client.Dockerfile", "server.Dockerfile"])
    def test_hadolint_finds_nothing(self, docker, file):
        if (program := shutil.which("hadolint")) is None:
            pytest.skip("hadolint is not installed")
        done = subprocess.run([program, str(docker / file)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


def test_the_parser_of_commands_refuses_what_the_command_line_does_not_know():
    with pytest.raises(click.exceptions.UsageError):
        parsed(["fedloupe-site", "start", HOME, "--no-such-option"])
