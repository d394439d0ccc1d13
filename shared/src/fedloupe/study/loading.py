"""YAML to `Study`, with errors that name file, key and accepted values.

Accepted: a mapping as in `Study`; `radiomics.settings` may be a mapping or the name of a YAML file beside the study.
JSON is YAML, so the canonical form loads too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fedloupe.errors import FedLoupeError
from fedloupe.study.protocol import Study


class StudyUnreadable(FedLoupeError):
    """The study file is absent, not permitted, or not YAML."""

    code = "FL-101"
    title = "study file cannot be read"


class StudyInvalid(FedLoupeError):
    """The study file is YAML but not a study."""

    code = "FL-102"
    title = "study is not valid"


class _NoDuplicates(yaml.SafeLoader):
    """YAML in which a key given twice is an error, not a silent choice."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        # Before merge keys (`<<`) are resolved: what they bring may be given again, a key of the same mapping may not.
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key `{key.value}` is given twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


# JSON writes 0.00001 as 1e-05; YAML 1.1 would read text.
_NoDuplicates.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> Any:
    """The parsed content of a YAML file.

    Raises:
        StudyUnreadable: absent, not permitted, not UTF-8, or not YAML; each in its own words.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDuplicates)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise StudyUnreadable("there is no such file", where=str(path), remedy="check the path") from None
    except PermissionError:
        raise StudyUnreadable(
            "this user may not read the file",
            where=str(path),
            remedy="ask for read permission; the file itself may be fine",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyUnreadable(
            f"reading failed: {error}", where=str(path), remedy="check that it is a text file"
        ) from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise StudyUnreadable(f"not YAML: {text}", where=str(path), remedy="mend the line named") from None
    except (ValueError, RecursionError) as error:
        # PyYAML lets these out: a date or number that looks like one and is none, and bottomless nesting.
        raise StudyUnreadable(
            f"not YAML: {error}", where=str(path), remedy="put quotes around dates and codes; see configs/demo.yaml"
        ) from None


def parse_study(content: Any, source: str = "study") -> Study:
    """A validated study from parsed YAML or JSON.

    Raises:
        StudyInvalid: naming each wrong key, what it holds and what is accepted.
    """
    if not isinstance(content, dict):
        raise StudyInvalid("a study is a mapping of keys", where=source, remedy="see configs/demo.yaml for an example")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise StudyInvalid(
            explain(error), where=source, remedy="mend these keys; configs/study-example.yaml shows all of them"
        ) from None


def explain(error: ValidationError) -> str:
    """A pydantic error as `key: message` phrases, one a problem."""
    phrases = []
    for item in error.errors():
        tags = ("none", "dp-sgd", "client-dp")  # of the union in `privacy`: no key of the file
        key = ".".join(str(part) for part in item["loc"] if part not in tags) or "(whole file)"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] != "missing" and not isinstance(item["input"], dict):
            message += f", not {item['input']!r}"
        phrases.append(f"`{key}`: {message}")
    return "; ".join(phrases)


def load_study(path: Path) -> Study:
    """Read, embed the settings file, validate.

    Args:
        path: a study in YAML or canonical JSON.

    Raises:
        StudyUnreadable, StudyInvalid: see there.
    """
    content = read_yaml(path)
    if isinstance(content, dict) and isinstance(radiomics := content.get("radiomics"), dict):
        settings = radiomics.get("settings")
        if isinstance(settings, str):
            content = {**content, "radiomics": {**radiomics, "settings": read_yaml(path.parent / settings)}}
    return parse_study(content, str(path))


def canonical_json(study: Study) -> str:
    """The study as sites store it: self-contained, stable, one line."""
    return study.canonical + "\n"
