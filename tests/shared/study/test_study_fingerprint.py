"""The fingerprint: blind to form, different for each single change of substance."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fedloupe.study import StudyInvalid, canonical_json, load_study, parse_study

_SITES = [{"name": n, "role": "train"} for n in ("north", "south", "east", "west")] + [
    {"name": "coast", "role": "validate"}
]
_PLAIN: dict[str, Any] = {
    "study": "rectal-test",
    "title": "Synthetic study of these tests",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "trg", "positive": ["TRG1", "TRG2"], "negative": ["TRG3"]},
    "sequences": [{"name": "t2w"}, {"name": "ct", "modality": "CT", "intensity": "hounsfield", "required": False}],
    "clinical": [{"name": "age", "column": "age"}, {"name": "stage", "column": "ct", "levels": {"T2": -1}}],
    "aggregation": "plain",
    "sites": _SITES,
    "radiomics": {"source": "computed", "settings": {"version": 1, "sigmas": [2.5, 3], "wavelet": "coif1"}},
    "evaluation": {"reference_score": "truth"},
}
_PRIVATE = {
    **_PLAIN,
    "privacy": {"mode": "dp-sgd", "epsilon": 8},
    "training": {"preparation": "public", "start": "random"},
}
_CLIENT = {
    **_PLAIN,
    "privacy": {"mode": "client-dp", "epsilon": 8},
    "training": {"preparation": "public", "start": "random", "weighting": "equal"},
}
# No valid study differs from these in one of these leaves alone.
_FIXED = {
    "plain": {"privacy.mode", "sequences.0.modality", "sequences.0.required", "synthetic"},
    "private": {
        "privacy.mode",
        "sequences.0.modality",
        "sequences.0.required",
        "synthetic",
        "training.preparation",
        "training.start",
    },
}
_FIXED["client"] = _FIXED["private"] | {"training.weighting", "evaluation.leave_one_site_out"}
_CHOICES: dict[str, list[Any]] = {
    "intensity": ["zscore", "physical"],
    "modality": ["MR", "CT"],
    "aggregation": ["plain", "secure"],
    "role": ["train", "validate"],
    "bias_correction": ["n4", "none"],
    "interpolation": ["linear", "cubic"],
    "source": ["none"],
    "strategy": ["fedprox"],
    "weighting": ["equal"],
    "start": ["random"],
    "preparation": ["public", "federated"],
    "mode": ["none", "dp-sgd", "client-dp"],
    "levels": [{"a": 1.0}],
    "reference_score": [None],
    "must": [["north"]],
    "may": [["south"]],
    "late": ["leave"],
    "heads": [8],
    "width": [64],
}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for key, item in enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _others(key: Any, value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value, *_CHOICES.get(key, [])]
    if isinstance(value, int):
        return [*_CHOICES.get(key, []), value + 1, value - 1]
    if isinstance(value, float):
        return [v for v in (value * 1.01, value * 0.99, value + 0.01) if v != value]
    if isinstance(value, str):
        return [v for v in _CHOICES[key] if v != value] if key in _CHOICES else [value + "x"]
    return _CHOICES[key]


def _parameters() -> Iterator[Any]:
    for name, base in (("plain", _PLAIN), ("private", _PRIVATE), ("client", _CLIENT)):
        canonical = json.loads(parse_study(base).canonical)
        for path, value in _leaves(canonical):
            dotted = ".".join(map(str, path))
            if dotted not in _FIXED[name]:
                yield pytest.param(canonical, path, value, id=f"{name}-{dotted}")


class TestSubstance:
    @pytest.mark.parametrize(("canonical", "path", "value"), list(_parameters()))
    def test_each_single_change_gives_another_fingerprint(self, canonical, path, value):
        before = parse_study(canonical).fingerprint
        for other in _others(path[-1], value):
            changed = copy.deepcopy(canonical)
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = other
            try:
                after = parse_study(changed)
            except StudyInvalid:
                continue
            assert after.fingerprint != before
            return
        pytest.fail(f"no valid change of {path} from {value!r} was found: add one to the test")

    def test_the_order_of_sites_and_sequences_is_substance(self):
        turned = {**_PLAIN, "sites": [*_SITES[1::-1], *_SITES[2:]]}
        assert parse_study(turned).fingerprint != parse_study(_PLAIN).fingerprint

    def test_embedded_settings_count_to_their_depths(self):
        base = parse_study(_PLAIN)
        deeper = {**_PLAIN, "radiomics": {"settings": {"version": 1, "sigmas": [2.5, 4], "wavelet": "coif1"}}}
        assert parse_study(deeper).fingerprint != base.fingerprint


class TestForm:
    def test_it_is_the_sha_256_of_the_canonical_json(self):
        import hashlib

        study = parse_study(_PLAIN)
        assert study.fingerprint == hashlib.sha256(study.canonical.encode("utf-8")).hexdigest()
        assert json.loads(study.canonical)["imaging"] == {
            "bias_correction": "n4",
            "crop_mm": 64.0,
            "interpolation": "linear",
            "spacing_mm": 1.0,
        }

    def test_key_order_and_comments_do_not_matter(self, tmp_path):
        file = tmp_path / "a.yaml"
        file.write_text(yaml.safe_dump(_PLAIN, sort_keys=True))
        other = tmp_path / "b.yaml"
        turned = {key: _PLAIN[key] for key in reversed(_PLAIN)}
        turned["endpoint"] = {key: _PLAIN["endpoint"][key] for key in reversed(_PLAIN["endpoint"])}
        other.write_text("# a comment\n" + yaml.safe_dump(turned, sort_keys=False, default_flow_style=True))
        assert file.read_text() != other.read_text()
        assert load_study(file).fingerprint == load_study(other).fingerprint

    @pytest.mark.parametrize("base", [_PLAIN, _PRIVATE], ids=["plain", "private"])
    def test_defaults_written_out_do_not_matter(self, base):
        study = parse_study(base)
        assert parse_study(json.loads(study.canonical)).fingerprint == study.fingerprint

    def test_a_whole_number_and_its_float_are_one_in_a_float_field(self):
        forms = [{**_PLAIN, "imaging": {"crop_mm": value}} for value in (48, 48.0)]
        assert len({parse_study(form).fingerprint for form in forms}) == 1


class TestCanonicalFile:
    def test_a_site_loads_the_canonical_form_and_finds_the_same_fingerprint(self, tmp_path):
        study = parse_study({**_PLAIN, "title": 'Größe, 直腸 \u00b2 "quoted" \\ back'})
        file = tmp_path / "study.json"
        file.write_text(canonical_json(study), encoding="utf-8")
        assert load_study(file) == study
        assert load_study(file).fingerprint == study.fingerprint

    def test_a_small_number_in_the_settings_survives_the_canonical_form(self, tmp_path):
        """JSON writes 0.00001 as 1e-05, which YAML 1.1 reads as text."""
        study = parse_study({**_PLAIN, "radiomics": {"settings": {"tolerance": 0.00001}}})
        file = tmp_path / "study.json"
        file.write_text(canonical_json(study), encoding="utf-8")
        assert load_study(file).fingerprint == study.fingerprint
