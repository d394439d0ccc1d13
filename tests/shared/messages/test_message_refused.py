"""Bytes that are not exactly a message are refused as such, whatever they are."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import fedloupe.messages
from fedloupe.messages import MessageRefused, NewtonReply, TrainReply, decode, encode

REPOSITORY = Path(__file__).parents[3]
HEADER = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "demo", "site": "north"}
TRAIN = {**HEADER, "kind": "train", "round": 1, "scope": "federated"}
WEIGHTS = {"weights": np.arange(4, dtype=np.float32)}
# `model.eval()` takes no argument and is not the built-in.
FORBIDDEN = re.compile(
    r"^\s*(import|from)\s+(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b"
    r"|\bpickle\.(load|loads|Unpickler)\b|torch\.(load|save)\(|allow_pickle\s*=\s*True|read_pickle\("
    r"|(?<!literal_)\beval\([^)]|\bexec\(",
    re.MULTILINE,
)


def blob(header: Any = TRAIN, tensors: dict[str, np.ndarray] = WEIGHTS) -> bytes:
    return save(tensors, metadata={"fedloupe": header if isinstance(header, str) else json.dumps(header)})


def raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


class TestContent:
    def test_the_unbroken_message_is_accepted(self):
        assert np.array_equal(decode(blob()).weights, WEIGHTS["weights"])

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "exec"},
            {"kind": ["train"]},
            {"kind": None},
            {"kind": "Train"},
            {"colour": 1},
            {"round": -1},
            {"round": 1.5},
            {"round": "one"},
            {"scope": "everything"},
            {"site": "../north"},
            {"site": "north\n"},
            {"run": "Demo"},
            {"run": "../x"},
            {"fingerprint": "0" * 63},
            {"version": "x" * 21},
            {"weights": [1, 2]},
        ],
        ids=str,
    )
    def test_a_changed_header_is_refused(self, change):
        if "weights" in change:  # an array smuggled through the header in place of the tensor
            with pytest.raises(MessageRefused):
                decode(blob({**TRAIN, **change}, {}))
            return
        with pytest.raises(MessageRefused):
            decode(blob({**TRAIN, **change}))

    @pytest.mark.parametrize("field", sorted(TRAIN))
    def test_a_missing_field_is_refused(self, field):
        with pytest.raises(MessageRefused):
            decode(blob({k: v for k, v in TRAIN.items() if k != field}))

    @pytest.mark.parametrize("tensors", [{}, {**WEIGHTS, "images": np.zeros(3)}, {"weight": np.zeros(3)}], ids=str)
    def test_a_missing_or_an_extra_array_is_refused(self, tensors):
        with pytest.raises(MessageRefused):
            decode(blob(TRAIN, tensors))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_an_array_that_is_not_finite_is_refused(self, value, dtype):
        with pytest.raises(MessageRefused, match="finite"):
            decode(blob(TRAIN, {"weights": np.array([0, value], dtype=dtype)}))

    @pytest.mark.parametrize("dtype", ["f2", "i4", "i2", "u1", "u8", "?"])
    def test_an_array_of_another_type_is_refused(self, dtype):
        with pytest.raises(MessageRefused, match="float32 or float64 or int64"):
            decode(blob(TRAIN, {"weights": np.zeros(3, dtype=dtype)}))

    @pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "OBJECT", "O", "", None, 3])
    def test_a_type_that_arrays_do_not_have_is_refused(self, dtype):
        header = {
            "__metadata__": {"fedloupe": json.dumps(TRAIN)},
            "weights": {"dtype": dtype, "shape": [1], "data_offsets": [0, 8]},
        }
        with pytest.raises(MessageRefused):
            decode(raw(header, bytes(8)))

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_a_number_that_is_not_finite_is_refused(self, value):
        header = {**HEADER, "kind": "train-reply", "round": 1, "patients": 3, "loss": "@", "epsilon": None}
        with pytest.raises(MessageRefused):
            decode(blob(json.dumps(header).replace('"@"', value)))

    def test_more_than_the_limit_is_refused(self, monkeypatch):
        whole = blob()
        monkeypatch.setattr(fedloupe.messages, "MAX_BYTES", len(whole) - 1)
        with pytest.raises(MessageRefused, match="more than"):
            decode(whole)
        monkeypatch.setattr(fedloupe.messages, "MAX_BYTES", len(whole))
        decode(whole)

    def test_a_refusal_has_a_title_without_a_value(self):
        with pytest.raises(MessageRefused) as caught:
            decode(blob({**TRAIN, "site": "Smith, John"}))
        assert caught.value.code == "FL-601"
        assert "Smith" not in caught.value.title


class TestBytes:
    @pytest.mark.parametrize(
        "garbage",
        [
            b"",
            b"\0",
            b"\0" * 8,
            b"\xff" * 64,
            b"{}",
            pickle.dumps({"kind": "train"}),
            raw([]),
            raw(None),
            raw({}),
            raw({"__metadata__": None}),
            raw({"__metadata__": {"fedloupe": ""}}),
            raw({"__metadata__": {"fedloupe": "[]"}}),
            raw({"__metadata__": {"fedloupe": "null"}}),
            raw({"__metadata__": {"fedloupe": "[" * 100_000}}),
            raw({"__metadata__": {"fedloupe": "9" * 10_000}}),
            raw({"__metadata__": {"other": json.dumps(TRAIN)}}),
        ],
        ids=range(16),
    )
    def test_garbage_is_refused(self, garbage):
        with pytest.raises(MessageRefused):
            decode(garbage)

    def test_every_truncation_is_refused(self):
        whole = blob()
        for length in range(len(whole)):
            with pytest.raises(MessageRefused):
                decode(whole[:length])

    def test_trailing_bytes_are_refused(self):
        with pytest.raises(MessageRefused):
            decode(blob() + b"\0")

    def test_random_damage_is_refused_or_harmless_but_never_a_crash(self):
        """A flipped byte may leave a valid message (another weight, another round); it may not raise anything else."""
        rng = np.random.default_rng(1)
        square = np.array([[2.0, 1.0], [1.0, 3.0]])
        wholes = [blob(), encode(NewtonReply(**HEADER, gradient=np.ones(2), hessian=square))]
        reply = TrainReply(**HEADER, round=1, patients=3, loss=0.5, epsilon=None, weights=WEIGHTS["weights"])
        wholes.append(encode(reply))
        refused = 0
        for number in range(3000):
            damaged = bytearray(wholes[number % 3])
            for position in rng.integers(0, len(damaged), rng.integers(1, 4)):
                damaged[position] = rng.integers(0, 256)
            try:
                decode(bytes(damaged))
            except MessageRefused:
                refused += 1
        assert refused > 1000

    def test_random_bytes_are_refused(self):
        rng = np.random.default_rng(2)
        for size in rng.integers(0, 400, 500):
            with pytest.raises(MessageRefused):
                decode(rng.bytes(size))
            length = int(rng.integers(0, 200))
            with pytest.raises(MessageRefused):
                decode(length.to_bytes(8, "little") + rng.bytes(size))


class TestNoPickle:
    def test_no_source_file_of_the_three_packages_can_unpickle(self):
        files = [f for part in ("shared", "client", "server") for f in (REPOSITORY / part / "src").rglob("*.py")]
        assert len(files) > 50
        found = {str(f): m.group() for f in files if (m := FORBIDDEN.search(f.read_text(encoding="utf-8")))}
        assert not found

    @pytest.mark.parametrize(
        "line",
        [
            "import pickle\n",
            "    from pickle import loads\n",
            "x = torch.load(path)\n",
            "np.load(path, allow_pickle=True)\n",
            "eval(text)\n",
        ],
    )
    def test_the_search_would_find_one(self, line):
        assert FORBIDDEN.search(line)
        assert not FORBIDDEN.search("model.eval()\nsafetensors.torch.load_file(path)\n")
