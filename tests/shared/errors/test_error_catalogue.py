"""Every user error: one code, a title that is safe to send, and the same error after a process border."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re

import pytest

from fedloupe.errors import FedLoupeError, catalogue


@pytest.fixture(scope="module")
def errors() -> dict[str, type[FedLoupeError]]:
    """The catalogue after every module of the three packages was imported; one that cannot be is a failure."""
    for package in ("fedloupe", "fedloupe_client", "fedloupe_server"):
        folder = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folder, f"{package}.", onerror=_no):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return {code: kind for code, kind in catalogue().items() if kind.__module__.startswith("fedloupe")}


def _no(name: str) -> None:
    raise ImportError(name)


def _raise_in_child(kind: type[FedLoupeError], out: multiprocessing.Queue) -> None:
    try:
        raise kind("the mask is empty", where="case 7f3a", remedy="draw it")
    except FedLoupeError as error:
        out.put(error)


class TestCatalogue:
    def test_every_code_is_unique_and_of_its_room(self, errors):
        rooms = {
            "study": "1", "client.config": "2", "client.ingest": "2", "client.imaging": "3", "client.radiomics": "4",
            "client.gate": "5", "privacy": "5", "messages": "6", "models": "6", "client.dataset": "6",
            "client.site": "6", "client.courier": "6", "server.federation": "7", "server.hub": "7",
            "server.simulation": "7", "server.evidence": "8", "metrics": "8",
        }  # fmt: skip
        assert len(errors) > 60
        for code, kind in errors.items():
            assert re.fullmatch(r"FL-[1-8]\d\d", code), kind
            module = re.sub(r"^fedloupe[._]", "", kind.__module__)
            room = next((digit for name, digit in rooms.items() if module.startswith(name)), None)
            assert room is None or code[3] == room, f"{kind.__module__}.{kind.__name__} has {code}"

    def test_every_title_is_general(self, errors):
        for kind in errors.values():
            assert kind.title != FedLoupeError.title, kind
            assert 8 <= len(kind.title) <= 120, kind
            assert not re.search(r"[\d/\\{}%<>]", kind.title), kind

    def test_every_class_has_a_code_of_its_own_and_says_what_it_is(self, errors):
        for kind in errors.values():
            assert "code" in vars(kind) and "title" in vars(kind), kind
            assert inspect.getdoc(kind) and vars(kind).get("__doc__"), kind

    def test_two_classes_with_one_code_are_a_programming_error(self):
        class First(FedLoupeError):
            code = "FL-990"

        class Second(FedLoupeError):
            code = "FL-990"

        try:
            with pytest.raises(RuntimeError, match="FL-990"):
                catalogue()
        finally:
            # Subclasses are known to their base for as long as they live: give each a code of its own.
            First.code, Second.code = "FL-991", "FL-992"
        catalogue()


class TestWords:
    def test_an_error_says_what_where_and_what_next(self):
        error = FedLoupeError("it broke", where="case 1", remedy="mend it")
        assert str(error) == "[FL-000] it broke (case 1). mend it"
        assert str(FedLoupeError("it broke", remedy="mend it")) == "[FL-000] it broke. mend it"


class TestProcessBorder:
    def test_every_error_survives_pickling(self, errors):
        for kind in errors.values():
            error = kind("what", where="where", remedy="remedy")
            again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
            assert type(again) is kind
            assert (again.what, again.where, again.remedy, str(again)) == ("what", "where", "remedy", str(error))

    def test_an_error_arrives_whole_from_another_process(self, errors):
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_raise_in_child, args=(errors["FL-602"], queue))
        child.start()
        error = queue.get(timeout=60)
        child.join()
        assert type(error) is errors["FL-602"]
        assert str(error) == "[FL-602] the mask is empty (case 7f3a). draw it"
