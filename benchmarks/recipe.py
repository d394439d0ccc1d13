"""What the recipe of local training was chosen by: one change at a time, on SYNTHETIC patients of another seed.

    python benchmarks/recipe.py /tmp/recipe                       # every row, two seeds: about an hour on one core
    python benchmarks/recipe.py /tmp/recipe --rows "base; scaffold" --seeds 1,2,3

Generates the hospitals of configs/demo-large.yaml with the cohort's seed 1 (configs/demo-large.sites.yaml has another,
so nothing here was chosen on the patients that are reported). Prints the AUC of the federated Transformer at the
training sites, on their tuning and test patients together, weighted by patients. The external site plays no part.
What was added for a hospital that never trained (harmonisation, own intercepts) is left out here: transport.py has it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.metrics import delong
from fedloupe.models import (
    Inputs,
    Penalty,
    Preparation,
    RadiomicsModel,
    RadiomicsTransformer,
    Schema,
    build_model,
    flatten,
    start_at_logistic,
    unflatten,
)
from fedloupe.models.layers import ImageTokens
from fedloupe.study import Study, load_study, parse_study
from fedloupe_client.dataset import Cohort, load_cohort, split_cases
from fedloupe_client.training.augmenting import mild
from fedloupe_client.training.evaluation import probabilities
from fedloupe_client.training.local import epochs, seed_for
from fedloupe_client.training.statistics import describe, newton_terms, sketch
from fedloupe_server.federation.strategies import strategy_for
from fedloupe_server.simulation.generating import Generate, synthetic_source
from fedloupe_server.simulation.pooling import pooled
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_home
from fedloupe_server.statistics.logistic import fit_logistic
from fedloupe_server.statistics.projection import PASSES, first_probe, next_probe, principal_projection
from fedloupe_server.statistics.scaling import scaling

CONFIG = Path(__file__).parents[1] / "configs" / "demo-large.yaml"
SEED = 1
Gradients = list[Tensor]


@dataclass(frozen=True)
class Row:
    """One change of the recipe.

    Attributes:
        study: changes of the study, by section.
        augmentation: of a batch.
        mixup: parameter of the Beta distribution (Zhang 2018); 0: none.
        smooth: label smoothing (Szegedy 2016).
        balance: outcomes weigh alike.
        scaffold: control variates as in option I of Karimireddy 2020, but added to the loss, so that AdamW scales them.
        coarse: beside the stem's features each place also has a linear map of its own of its mean intensities.
        warm: rounds in which the rate climbs to its schedule.
        masked: rounds of masked-image pre-training of the stem (He 2022), federated, on training patients.
    """

    study: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    augmentation: Callable[[Inputs], Inputs] = mild
    mixup: float = 0.0
    smooth: float = 0.0
    balance: bool = False
    scaffold: bool = False
    coarse: bool = False
    warm: int = 0
    masked: int = 0


def shifted(batch: Inputs) -> Inputs:
    """`mild`, a shift of up to two voxels, an upside-down mirror, and gain, offset and noise a volume."""
    batch = mild(batch)
    mr = torch.roll(batch.mr, torch.randint(-2, 3, (3,)).tolist(), (-3, -2, -1))
    mr = torch.where((torch.rand(len(batch)) < 0.5)[:, None, None, None, None], mr.flip(-3), mr)
    gain, offset = 1 + 0.1 * torch.randn(*mr.shape[:2], 1, 1, 1), 0.1 * torch.randn(*mr.shape[:2], 1, 1, 1)
    mr = (mr * gain + offset + 0.1 * torch.randn_like(mr)) * batch.mr_present[:, :, None, None, None]
    return replace(batch, mr=mr)


def training(**changes: Any) -> Row:
    return Row({"training": changes})


def model(**changes: Any) -> Row:
    return Row({"model": changes})


ROWS: dict[str, Row] = {
    "base": Row(),
    "batch 32": training(batch_size=32),
    "no augmentation": Row(augmentation=lambda batch: batch),
    "stronger augmentation": Row(augmentation=shifted),
    "stronger augmentation, 30 rounds": Row({"training": {"rounds": 30}}, augmentation=shifted),
    "30 rounds": training(rounds=30),
    "10 rounds of 4 epochs": training(rounds=10, local_epochs=4),
    "rate 0.004": training(learning_rate=0.004),
    "rate 0.001": training(learning_rate=0.001),
    "warm-up of 3 rounds": Row(warm=3),
    "weight decay 0.3": training(weight_decay=0.3),
    "linear path from zero": training(start="random"),
    "sites weigh alike": training(weighting="equal"),
    "fedprox, mu 0.1": training(strategy="fedprox", proximal_mu=0.1),
    "fedadam": training(strategy="fedadam", server_learning_rate=0.01),
    "scaffold": Row(scaffold=True),
    "ridge 1": Row({"evaluation": {"ridge": 1.0}}),
    "ridge 15": Row({"evaluation": {"ridge": 15.0}}),
    "4 components a group": model(components=4),
    "outcomes weigh alike": Row(balance=True),
    "label smoothing 0.1": Row(smooth=0.1),
    "mixup 0.4": Row(mixup=0.4),
    "16 components a group": model(components=16),
    "width 16, one layer": model(width=16, depth=1, heads=2),
    "width 64": model(width=64),
    "dropout 0.3": model(dropout=0.3),
    "feature dropout and noise 0.5": model(feature_dropout=0.5, feature_noise=0.5),
    "feature dropout and noise 0.1": model(feature_dropout=0.1, feature_noise=0.1),
    "coarse places beside the stem": Row(coarse=True),
    "masked-image pre-training": Row(masked=10),
    "no image": model(image=False),
}


class Coarse(nn.Module):
    """Image tokens plus, for each place, a linear map of its own of the mean intensities there."""

    def __init__(self, volumes: int, edge: int, width: int) -> None:
        super().__init__()
        self.inner, self.edge = ImageTokens(volumes, edge, width), -(-edge // 8)
        self.weight = nn.Parameter(torch.randn(self.edge**3, volumes, width) * volumes**-0.5)

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        means = F.adaptive_avg_pool3d(images, self.edge).flatten(2).transpose(1, 2)
        return self.inner(images, present) + torch.einsum("bnc,ncd->bnd", means, self.weight)


class Painter(nn.Module):
    """The stem and a linear decoder: (B, M, E, E, E) with half of the places masked to the 4^3 means of each place."""

    def __init__(self, stem: ImageTokens, volumes: int, edge: int, width: int) -> None:
        super().__init__()
        self.stem, self.places, self.decoder = stem, edge // 8, nn.Linear(width, volumes * 8)

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """The mean squared error at the masked places."""
        n, volumes = self.places, images.shape[1]
        hidden = torch.rand(len(images), 1, n, n, n) < 0.5
        shown = images * ~hidden.repeat_interleave(8, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
        fine = F.adaptive_avg_pool3d(images, 2 * n)
        parts = fine.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2)  # (B, M, n, n, n, 2, 2, 2)
        target = parts.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(len(images), n**3, volumes * 8)
        error = ((self.decoder(self.stem(shown, present)) - target) ** 2).mean(-1)
        mask = hidden.flatten(1)
        return (error * mask).sum() / mask.sum().clamp(min=1)


@dataclass(frozen=True)
class Federation:
    """One split of the cohort, prepared: what the sites' sums give, computed in one place."""

    study: Study
    cohorts: dict[str, Cohort]
    preparation: Preparation
    beta: NDArray[np.float64]

    @property
    def schema(self) -> Schema:
        return Schema.of(self.study, next(iter(self.cohorts.values())).groups)

    def inputs(self, site: str) -> tuple[Inputs, Tensor]:
        cohort = self.cohorts[site]
        rows = cohort.rows("train")
        return cohort.inputs(self.preparation, rows), torch.from_numpy(cohort.labels[rows].astype(np.float32))


def federation(study: Study, whole: dict[str, Cohort]) -> Federation:
    cohorts = {
        site: replace(cohort, split=split_cases(study, site, cohort.cases, cohort.labels.tolist()))
        for site, cohort in whole.items()
    }
    own = list(cohorts.values())
    columns, width = own[0].columns, study.model.components
    everyone = pooled(own)
    moments = describe(everyone)
    mean, scale = scaling(moments)
    probe = first_probe(columns, width, study.seed)
    sums = sketch(everyone, mean, scale, probe)
    for _ in range(PASSES - 1):
        probe = next_probe(sums, columns)
        sums = sketch(everyone, mean, scale, probe)
    projection = principal_projection(probe, sums, columns, width, float(moments.count.max()))
    preparation = Preparation(mean, scale, projection, "federated")
    size = 1 + len(own[0].groups) * width + own[0].clinical.shape[1]

    def ask(_: int, beta: NDArray[np.float64]) -> list[Any]:
        return [_Terms(*newton_terms(cohort, preparation, beta)) for cohort in own]

    beta = fit_logistic(ask, size, Penalty(study.evaluation.ridge, 0.0), None, where="recipe")
    return Federation(study, cohorts, preparation, beta)


@dataclass(frozen=True)
class _Terms:
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


def built(row: Row, fed: Federation) -> RadiomicsModel:
    torch.manual_seed(fed.study.seed)  # of what a row adds to the model
    made = build_model(fed.study, fed.schema)
    if row.coarse:
        assert isinstance(made, RadiomicsTransformer)
        made.tokens.mr = Coarse(fed.schema.mr, fed.schema.crop, fed.study.model.width)
    if row.masked:
        pretrain(made, fed, row.masked)
    return made if fed.study.training.start == "random" else start_at_logistic(made, fed.beta)


def pretrain(made: RadiomicsModel, fed: Federation, rounds: int) -> None:
    assert isinstance(made, RadiomicsTransformer) and isinstance(made.tokens.mr, ImageTokens)
    painter = Painter(made.tokens.mr, fed.schema.mr, fed.schema.crop, fed.study.model.width)
    study = fed.study.model_copy(update={"training": fed.study.training.model_copy(update={"rounds": rounds})})
    weights, strategy = flatten(painter), strategy_for(study.training)
    for number in range(1, rounds + 1):
        replies = {}
        for site in fed.cohorts:
            unflatten(painter, weights)
            inputs, _ = fed.inputs(site)

            def loss_of(batch: Tensor, inputs: Inputs = inputs) -> Tensor:
                part = mild(inputs.take(batch))
                loss: Tensor = painter(part.mr, part.mr_present)
                return loss

            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_for(study, site, "masked", number))
                epochs(study, painter, len(inputs), loss_of, number=number, proximal=0.0)
            replies[site] = (flatten(painter), float(len(inputs)))
        weights = strategy.aggregate(weights, replies)
    unflatten(painter, weights)


def train(row: Row, fed: Federation) -> NDArray[np.float32]:
    study, made = fed.study, built(row, fed)
    weights, strategy = flatten(made), strategy_for(study.training)
    proximal = study.training.proximal_mu if study.training.strategy == "fedprox" else 0.0
    data = {site: fed.inputs(site) for site in fed.cohorts}
    total = sum(len(labels) for _, labels in data.values())
    for number in range(1, study.training.rounds + 1):
        unflatten(made, weights)
        slopes = {site: gradient(made, *data[site]) for site in data} if row.scaffold else {}
        common = [
            sum(slopes[site][i] * (len(data[site][1]) / total) for site in data)
            for i in range(len(list(made.parameters()) if row.scaffold else []))
        ]
        climb = min(1.0, number / (row.warm + 1))
        rate = {"learning_rate": study.training.learning_rate * climb}
        now = study.model_copy(update={"training": study.training.model_copy(update=rate)})
        replies = {}
        for site, (inputs, labels) in data.items():
            unflatten(made, weights)
            pull = [c - own for c, own in zip(common, slopes[site], strict=True)] if row.scaffold else None
            loss_of = loss_with(row, made, inputs, labels, pull)
            with torch.random.fork_rng(devices=[]):  # as a site does: a row depends on no row before it
                torch.manual_seed(seed_for(study, site, "federated", number))
                epochs(now, made, len(labels), loss_of, number=number, proximal=proximal)
            share = float(len(labels)) if study.training.weighting == "patients" else 1.0
            replies[site] = (flatten(made), share)
        weights = strategy.aggregate(weights, replies)
    return weights


def gradient(made: RadiomicsModel, inputs: Inputs, labels: Tensor) -> Gradients:
    """Of the mean loss over all of a site's patients at the round's weights."""
    made.eval()
    loss = F.binary_cross_entropy_with_logits(made(*inputs.tensors), labels)
    return list(torch.autograd.grad(loss, list(made.parameters())))


def loss_with(
    row: Row, made: RadiomicsModel, inputs: Inputs, labels: Tensor, pull: list[Any] | None
) -> Callable[[Tensor], Tensor]:
    rate = labels.mean()
    weight = torch.where(labels > 0, 0.5 / rate, 0.5 / (1 - rate)) if row.balance else torch.ones_like(labels)

    def loss_of(batch: Tensor) -> Tensor:
        part, target = row.augmentation(inputs.take(batch)), labels[batch]
        target = target * (1 - row.smooth) + 0.5 * row.smooth
        if row.mixup:
            share = float(torch.distributions.Beta(row.mixup, row.mixup).sample())
            other = torch.randperm(len(batch))
            part = Inputs(*(share * values + (1 - share) * values[other] for values in part.tensors))
            target = share * target + (1 - share) * target[other]
        loss = F.binary_cross_entropy_with_logits(made(*part.tensors), target, weight=weight[batch])
        if pull is not None:  # its gradient is the control variate c - c_i
            loss = loss + sum((p * c).sum() for p, c in zip(made.parameters(), pull, strict=True))
        return loss

    return loss_of


def judged(row: Row, fed: Federation, weights: NDArray[np.float32]) -> float:
    """AUC on the sites' tuning and test patients together, weighted by patients."""
    areas = []
    made = built(replace(row, masked=0), fed)
    unflatten(made, weights)
    made.eval()
    for cohort in fed.cohorts.values():
        rows = np.sort(np.concatenate([cohort.rows("tune"), cohort.rows("test")]))
        with torch.no_grad():
            scores = torch.sigmoid(made(*cohort.inputs(fed.preparation, rows).tensors).double()).numpy()
        areas.append((delong(cohort.labels[rows], scores).auc, len(rows)))
    return sum(auc * n for auc, n in areas) / sum(n for _, n in areas)


def logistic(fed: Federation) -> float:
    areas = []
    for cohort in fed.cohorts.values():
        rows = np.sort(np.concatenate([cohort.rows("tune"), cohort.rows("test")]))
        scores = probabilities(fed.study, cohort, fed.preparation, "logistic", fed.beta, rows)
        areas.append((delong(cohort.labels[rows], scores).auc, len(rows)))
    return sum(auc * n for auc, n in areas) / sum(n for _, n in areas)


def plain(study: Study) -> dict[str, Any]:
    """The study without what came after its recipe (`transport.py`): harmonisation, own intercepts, its later split."""
    content = study.model_dump(mode="json")
    del content["harmonisation"]
    content["training"] |= {"random_intercept": None, "augmentation": "mild"}
    return {**content, "split": {"test": 0.15, "tune": 0.15}}


def prepared(folder: Path) -> dict[str, Cohort]:
    """The training sites' patients, generated and derived on first use."""
    study = load_study(CONFIG)
    spec = Generate(hospitals="demo", seed=SEED, scale=2.44).cohort(study, CONFIG)
    homes = {
        site.name: make_home(
            folder / "sites" / site.name, study, site.name, synthetic_source(folder / "hospitals", site, study), {}
        )
        for site in spec.sites
    }
    prepare_sites(study, homes, lambda *_: None, cohort=(folder / "hospitals", spec))
    return {site: load_cohort(homes[site], study, site) for site in study.train_sites}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", help="names of rows, with ; between them; all if not given")
    parser.add_argument("--seeds", default="1,2")
    arguments = parser.parse_args()
    if arguments.folder is None:
        print(__doc__)
        return
    chosen = list(ROWS) if arguments.rows is None else [name.strip() for name in arguments.rows.split(";")]
    if unknown := [name for name in chosen if name not in ROWS]:
        parser.error(f"no such rows: {unknown}; there are {list(ROWS)}")
    torch.set_num_threads(1)
    whole = prepared(arguments.folder)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    content = plain(load_study(CONFIG))
    print(f"SYNTHETIC patients, cohort seed {SEED}; AUC at the training sites, seeds {seeds}", flush=True)
    for name in chosen:
        row, found, linear, began = ROWS[name], [], [], time.process_time()
        for seed in seeds:
            changes = {section: {**content[section], **keys} for section, keys in row.study.items()}
            fed = federation(parse_study({**content, **changes, "seed": seed}), whole)
            found.append(judged(row, fed, train(row, fed)))
            linear.append(logistic(fed))
        seconds = (time.process_time() - began) / len(seeds)
        each = " ".join(f"{auc:.3f}" for auc in found)
        print(
            f"{name:36s} {np.mean(found):.3f}  ({each})  logistic {np.mean(linear):.3f}  {seconds:4.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
