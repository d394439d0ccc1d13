"""Where the model comes from, as an in-toto statement with a SLSA provenance predicate.

statement = provenance(results, study, files)

Subjects are the pack's model files by SHA-256. What went in stands as `resolvedDependencies`: the protocol, the code,
and each hospital's data as the digest that the hospital keyed with a secret of its own, so that it shows change and
tells nothing else. Rounds are `byproducts`, each with the digest of the weights that the next one began with. There is
no date: a run has many, and equal runs have equal provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloupe.features import parse_settings
from fedloupe.study import Study
from fedloupe_server.evidence.results import Results, RoundRecord

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:fedloupe:federated-training:1"
IBSI = {
    "digital phantom": (482, 482),
    "CT phantom A": (346, 346),
    "CT phantom B": (346, 346),
    "CT phantom C": (210, 210),
}
"""Values within the published tolerance, of those offered; `docs/radiomics.md` has them by family, tests hold both."""


def provenance(results: Results, study: Study, files: Mapping[str, str], seal: str | None = None) -> dict[str, Any]:
    """The statement, ready for JSON with sorted keys.

    Args:
        results: of the run.
        study: its protocol.
        files: SHA-256 of each model file by its path in the pack.
        seal: SHA-256 of the seal, where there is one.
    """
    weights = results.rounds[-1].weights if results.rounds else None
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "study": {"name": results.study, "fingerprint": results.fingerprint},
                    "endpoint": results.endpoint,
                    "privacy": results.privacy,
                    "aggregation": results.aggregation,
                    "sites": {site.site: site.role for site in results.sites},
                    "synthetic": results.synthetic,
                },
                "internalParameters": {
                    "seed": results.seed,
                    "strategy": results.strategy,
                    "features": _engine(results, study),
                },
                "resolvedDependencies": [
                    {"name": "protocol", "digest": {"sha256": results.fingerprint}},
                    {
                        "name": f"fedloupe {results.version}, the coordinator's packages",
                        "annotations": {"licence": "Apache-2.0", "at each site": f"fedloupe-client {results.version}"},
                        **({"digest": {"sha256": results.code}} if results.code else {}),
                    },
                    *({"name": f"data of {s.site}", "digest": {"hmac-sha256": s.data_digest}} for s in results.sites),
                    *_models_used(results),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": "urn:fedloupe:coordinator",
                    "version": {"fedloupe": results.version, **results.libraries},
                },
                "metadata": {"invocationId": results.run},
                "byproducts": [
                    {
                        "name": "frozen before validation",
                        "digest": {"sha256": results.frozen},
                        "annotations": {
                            "weights": weights,
                            "preparation": results.preparation,
                            "threshold": results.threshold,
                            "threshold-sites": list(results.threshold_sites),
                            "seal": seal,
                        },
                    },
                    *(_round(record, before) for record, before in _lineage(results)),
                ],
            },
            "privacy": _privacy(results, study),
        },
    }


def _engine(results: Results, study: Study) -> dict[str, Any]:
    """What computed the features, and how far it agrees with IBSI."""
    if study.radiomics.source != "computed":
        return {"source": study.radiomics.source}
    return {
        "source": "computed",
        "engine": f"fedloupe_client.radiomics {results.version}",
        "settings": parse_settings(study.radiomics.settings).digest,
        "ibsi-1 values within tolerance, of those with a consensus": {
            data: f"{within} of {offered}" for data, (within, offered) in IBSI.items()
        },
    }


def _models_used(results: Results) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": f"model that drew masks at {s.site}", "digest": {"sha256": s.drawn_by}} for s in results.sites
    ]
    return [one for one in found if one["digest"]["sha256"]]


def _lineage(results: Results) -> list[tuple[RoundRecord, str | None]]:
    """Each round with the digest of the weights that it began with; None: the study's own start."""
    before = [None, *(record.weights for record in results.rounds)]
    return list(zip(results.rounds, before, strict=False))


def _round(record: RoundRecord, before: str | None) -> dict[str, Any]:
    return {
        "name": f"round {record.round}",
        "digest": {"sha256": record.weights},
        "annotations": {
            "from": before,
            "participants": list(record.participants),
            "absent": list(record.absent),
            "late": list(record.late),
            "carried": list(record.carried),
        },
    }


def _privacy(results: Results, study: Study) -> dict[str, Any]:
    """Epsilon as the sites' ledgers, or the coordinator's account, had it at the end."""
    return {
        "guarantee": "none" if results.privacy == "none" else study.privacy.mode,
        "epsilon-by-site": {s.site: s.epsilon for s in results.sites if s.epsilon is not None},
        "client-level": results.client_level.model_dump() if results.client_level else None,
    }
