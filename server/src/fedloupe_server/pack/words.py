"""The pack's readable pages: the protocol and the model card, in Markdown.

text = protocol(study, features=1632)
text = model_card(results, study, files=True)
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedloupe.features import parse_settings
from fedloupe.study import SCALES, Study, privacy_in_words
from fedloupe_server.evidence import formats, private, wording
from fedloupe_server.evidence.checklists import NAMES, load
from fedloupe_server.evidence.results import Results, Scores

SAID = ("rounds", "local_epochs", "batch_size", "learning_rate", "strategy", "start", "preparation")
"""Keys of `training` that the page says in words."""


def protocol(study: Study, features: int) -> str:
    """The study as a person reads it; headings are anchors of the checklists.

    Args:
        study: as approved.
        features: columns that the run agreed on.
    """
    return _page(
        "protocol.md",
        study=study,
        features=f"{features:,}",
        train=study.train_sites,
        sequences=", ".join(s.name for s in study.sequences),
        required=formats.listed([s.name for s in study.sequences if s.required]),
        clinical=", ".join(c.name for c in study.clinical),
        levels={
            c.name: ", ".join(f"{word} = {value:g}" for word, value in c.levels.items())
            if c.levels
            else f"(value - {c.centre:g}) / {c.scale:g}"
            for c in study.clinical
        },
        scales={name: SCALES[name].title for name in study.endpoint.scales},
        intensities=", ".join(sorted({s.intensity for s in study.sequences})),
        settings=parse_settings(study.radiomics.settings).digest if study.radiomics.source == "computed" else "",
        shown=json.dumps(study.radiomics.settings, indent=1),
        training={k: v for k, v in study.training.model_dump().items() if k not in SAID},
        model={k: v for k, v in study.model.model_dump().items() if v is not None and k != "architecture"},
        labels=study.evidence.labels if study.evidence else None,
        declared=study.evidence.declared if study.evidence else None,
        privacy=privacy_in_words(study.privacy),
        percent=formats.percent,
        subgroups=", ".join(group.name for group in study.evidence.subgroups) if study.evidence else "",
        compared=_compared(study),
    )


def model_card(results: Results, study: Study, *, files: bool) -> str:
    """What the model is, what it was tested on, and what it is not for.

    Args:
        results: of the run.
        study: its protocol.
        files: whether the pack holds the model.
    """
    return _page(
        "model-card.md",
        results=results,
        study=study,
        files=files,
        inputs=_inputs(study, results.features),
        private=private.in_short(results),
        train=wording.training(results),
        described=any(site.cohort for site in results.sites),
        found=" ".join(wording.found(results)),
        certainty=" ".join(wording.certainty(results)),
        benefit=" ".join(wording.benefit(results)),
        limits=wording.limits(results),
        interval=_interval,
        declared=study.evidence.declared if study.evidence else None,
        required=formats.listed([s.name for s in study.sequences if s.required]) or "the same feature columns",
    )


def index(results: Results, *, models: bool, sealed: bool, note: str | None) -> str:
    """What is in the pack.

    Args:
        results: of the run.
        models: whether it holds the model.
        sealed: whether it holds a seal.
        note: why there is no PDF; None where there is one.
    """
    lists = formats.listed([load(name).title for name in NAMES])
    return _page("README.md", results=results, models=models, sealed=sealed, pdf=note is None, note=note, lists=lists)


def _interval(scores: Scores) -> str:
    return formats.with_interval(scores.auc, scores.auc_low, scores.auc_high)


def _inputs(study: Study, features: int) -> str:
    parts = [f"{features:,} radiomic features"] if study.radiomics.source != "none" else []
    parts += [formats.count(len(study.clinical), "clinical value")] if study.clinical else []
    if study.model.image and study.sequences:
        parts.append(f"tumour crops of {', '.join(s.name for s in study.sequences)}")
    return "; ".join(parts)


def _compared(study: Study) -> str:
    wanted = study.evaluation
    others = {
        "each hospital's own model": wanted.local_baseline and not study.private,
        "federated logistic regression": wanted.logistic_baseline and not study.private,
        "clinical values alone": wanted.clinical_baseline,
        "federated boosted trees": wanted.trees is not None,
    }
    return formats.listed([name for name, there in others.items() if there]) or "nothing"


def _page(name: str, **content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("fedloupe_server.pack", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(name).render(**content)
