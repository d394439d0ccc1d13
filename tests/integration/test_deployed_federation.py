"""Real processes on loopback: SuperLink with its locks, proxy, executor, couriers, and small site processes.

The sites answer `hello` themselves, so that what is tested is the wire.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

import fedloupe
from fedloupe.messages import HelloRequest, decode, encode
from fedloupe.sealed import seal
from fedloupe.signing import Signer
from fedloupe_client.courier.service import Courier
from fedloupe_client.gate import trusted
from fedloupe_client.joining import initialise, installed
from fedloupe_client.site.server import SiteSilent, ask
from fedloupe_server.hub.deployment import deployment
from fedloupe_server.hub.processes import free_ports
from wire_study import write_wire_study

pytestmark = pytest.mark.deployed

SITE = """
import sys
import time
from pathlib import Path
import fedloupe
from fedloupe.messages import Failure, HelloReply, decode, encode
from fedloupe_client.site.server import desk_of, serve

name, patients = sys.argv[1], int(sys.argv[2])

def handle(blob):
    request = decode(decode(blob).inner.tobytes())
    header = dict(version=fedloupe.__version__, fingerprint=request.fingerprint, run=request.run, site=name)
    if request.site != name:
        return encode(Failure(**header, code="FL-500", title="addressed to another site"))
    return encode(HelloReply(**header, train=patients, tune=0, test=0, positives=1, excluded={}, features=(), groups=(),
                             data_digest="00"))

print("serving", flush=True)
serve(desk_of(handle), Path(sys.argv[3])).wait()
"""
PATIENTS = {"north": 31, "south": 17}


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return write_wire_study(tmp_path_factory.mktemp("study") / "study.yaml", *PATIENTS)


@pytest.fixture(scope="session")
def lines():
    return []


@pytest.fixture(scope="session")
def federation(tmp_path_factory, lines, study):
    folder = tmp_path_factory.mktemp("deployed")
    script = folder / "site.py"
    script.write_text(SITE, encoding="utf-8")
    homes = {name: folder / name for name in PATIENTS}

    def site_command(home, socket):
        return [sys.executable, str(script), home.name, str(PATIENTS[home.name]), str(socket)]

    def progress(line):
        print(line, flush=True)
        lines.append(line)

    with deployment(study, homes, folder / "work", site_command=site_command, progress=progress) as running:
        yield running


def _ping(federation, study, run_dir):
    told = []
    federation.run("ping", study, run_dir, timeout_s=240, progress=told.append)
    return json.loads((run_dir / "ping.json").read_text()), told


class TestTheWire:
    def test_each_site_gets_its_own_message_and_its_answer_comes_back(self, federation, study, tmp_path):
        answers, told = _ping(federation, study, tmp_path / "run")
        assert answers == {"north": "ready: 31 patients", "south": "ready: 17 patients"}
        assert any("asked 2, answered 2" in line for line in told)


class TestTheLocks:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/control/list-runs",
            "/v1/control/start-run",
            "/v1/runtime/acquire-task",
            "/docs",
            "/health",
            "/v1/fleet/",
        ],
    )
    def test_the_proxy_shows_nothing_but_the_fleet_routes(self, federation, path):
        assert _post(federation, federation.coordinator.proxy_port, path) == 404

    def test_a_fleet_route_passes_the_proxy_to_the_superlink(self, federation):
        # The SuperLink's own answer to an unsigned request: neither the proxy's 404 nor a retry.
        assert _post(federation, federation.coordinator.proxy_port, "/v1/fleet/pull-messages") in (400, 401, 403, 422)

    def test_without_the_proxy_the_control_routes_would_be_open(self, federation):
        assert _post(federation, federation.coordinator.flower.port, "/v1/control/list-runs") == 200

    def test_the_executor_route_asks_for_the_secret(self, federation):
        assert _post(federation, federation.coordinator.flower.port, "/v1/runtime/acquire-task") == 401

    def test_a_node_without_a_registered_key_is_refused(self, federation, tmp_path):
        hospital = federation.hospitals["north"]
        initialise(tmp_path / "home", "stranger", tmp_path)
        stranger = Courier(
            coordinator=federation.coordinator.address,
            authority=federation.coordinator.authority,
            key=tmp_path / "courier.key",
            socket=hospital.socket,
            home=hospital.folder / "flower",
            state=tmp_path / "state",
            port=free_ports(1)[0],
        )
        stop = threading.Event()
        running = threading.Thread(target=stranger.start, args=(stop,))
        running.start()
        try:
            state = _state_within(stranger.state, "refused", 240.0)
        finally:
            stop.set()
            running.join()
        assert (state["last_code"], state["last_contact"]) == ("FL-671", None)
        assert not (stranger.state / "node.json").exists()

    def test_a_bundle_with_code_in_it_is_refused_and_its_code_never_runs(self, federation, study, tmp_path):
        marker = tmp_path / "executed"
        evil = tmp_path / "evil"
        shutil.copytree(federation.coordinator.app, evil, ignore=shutil.ignore_patterns("*.fab"))
        text = (evil / "pyproject.toml").read_text()
        changed = text.replace('["LICENSE"]', '["LICENSE", "fedloupe_client/**/*.py"]')
        assert changed != text
        (evil / "pyproject.toml").write_text(changed)
        shadow = evil / "fedloupe_client" / "courier"
        shadow.mkdir(parents=True)
        (evil / "fedloupe_client" / "__init__.py").write_text("")
        (shadow / "__init__.py").write_text("")
        (shadow / "app.py").write_text(
            f"open({str(marker)!r}, 'a').close()\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"
        )
        attacked = replace(federation, coordinator=replace(federation.coordinator, app=evil))
        answers, told = _ping(attacked, study, tmp_path / "run")
        assert answers == {"north": "silent", "south": "silent"}
        assert sum(line.count("FL-689 app bundle that shadows an installed package") for line in told) == 2
        assert not marker.exists()

    def test_secrets_are_readable_by_their_owner_only(self, federation):
        secrets = [*federation.coordinator.work.rglob("*.key"), *federation.coordinator.work.rglob("*.secret")]
        # Authority, coordinator, server (and the link to it), executor; a courier and its executor at each hospital.
        assert len(secrets) == 5 + 2 * len(PATIENTS)
        assert {oct(path.stat().st_mode & 0o777) for path in secrets} == {"0o600"}

    def test_a_hospitals_flower_home_is_read_only(self, federation):
        home = federation.hospitals["north"].folder / "flower"
        # `source` is a random id that Flower writes where it may; root, as these tests may run, may everywhere.
        assert {path.name for path in home.rglob("*")} - {"source"} == {"approved"}, "nothing that could be run"
        kept = [home, home / "approved"]
        assert {oct(path.stat().st_mode & 0o222) for path in kept} == {"0o0"}

    def test_nobody_listens_beyond_loopback(self, federation):
        listening = _listeners({running.process.pid for running in federation.processes.running.values()})
        assert listening  # the SuperLink, the proxy and the SuperNodes' own ports were found
        assert {address for address in listening} == {"127.0.0.1"}


class TestAHospitalGoesAway:
    def test_a_killed_site_process_is_started_again_and_answers_on_the_same_socket(self, federation):
        name, hospital = "site-north", federation.hospitals["north"]
        federation.processes.running[name].process.kill()
        federation.processes.running[name].process.wait()
        federation.processes.check()
        federation.processes.wait_for(name, lambda: _says_hello(federation, hospital), 240.0)

    def test_a_dead_site_process_is_an_absent_site_and_the_others_answer(self, federation, study, tmp_path):
        federation.processes.end("site-south")  # last test: nobody starts it again
        answers, told = _ping(federation, study, tmp_path / "run")
        assert answers == {"north": "ready: 31 patients", "south": "silent"}
        assert any("south: error 100: FL-620 the site process does not answer" in line for line in told)


class TestAgain:
    def test_a_second_deployment_in_the_same_folder_goes_on_with_the_same_keys(self, tmp_path, study):
        (tmp_path / "site.py").write_text(SITE, encoding="utf-8")

        def site_command(home, socket):
            return [sys.executable, str(tmp_path / "site.py"), home.name, "31", str(socket)]

        seen = []
        for homes in (
            {"north": tmp_path / "north"},
            {"north": tmp_path / "north"},
            {"north": tmp_path / "new" / "north"},
        ):
            with deployment(study, homes, tmp_path / "work", site_command=site_command, progress=print) as running:
                (home,) = homes.values()
                kit = installed(home)
                seen.append((Signer.load(home / "gate" / "site.key").public, set(trusted(home)), kit.number))
                assert kit.address == running.coordinator.address
        keys, coordinators, numbers = zip(*seen, strict=True)
        assert keys[0] == keys[1] != keys[2], "the third home is a new one, with keys of its own"
        assert len(set.union(*coordinators)) == 1
        assert numbers == (1, 2, 3)


def _says_hello(federation, hospital):
    request = HelloRequest(version=fedloupe.__version__, fingerprint="0" * 64, run="ping", site=hospital.site)
    key = Signer.load(federation.coordinator.federation / "coordinator.key")
    try:
        sealed = encode(seal(encode(request), key, lifetime_s=60))
        return decode(ask(hospital.socket, sealed, 5.0)).train == PATIENTS[hospital.site]
    except SiteSilent:
        return False


def _state_within(folder, wanted, timeout_s):
    end = time.monotonic() + timeout_s
    while True:
        file = folder / "courier-state.json"
        state = json.loads(file.read_text()) if file.is_file() else {"state": "absent"}
        if state["state"] == wanted:
            return state
        assert time.monotonic() < end, state
        time.sleep(0.2)


def _post(federation, port, path):
    context = ssl.create_default_context(cafile=federation.coordinator.authority)
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}{path}", data=b"", headers={"content-type": "application/protobuf"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def _listeners(roots):
    """Addresses of listening TCP sockets of these processes and their descendants (IPv4 and IPv6)."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    family, queue = set(), list(roots)
    while queue:
        family.add(pid := queue.pop())
        queue += children.get(pid, [])
    inodes = set()
    for pid in family:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            part = line.split()
            if part[3] == "0A" and f"socket:[{part[9]}]" in inodes:
                address = part[1].split(":")[0]
                found.append(
                    ".".join(str(int(address[i : i + 2], 16)) for i in (6, 4, 2, 0)) if table == "tcp" else address
                )
    return found
