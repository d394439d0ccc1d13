"""A server's guess of the patients behind a weight update, in closed form.

    attack = attack_on(study, groups)
    guesses = attack(weights - start)            # (2, q) radiomics components and clinical values
    likeness(guesses, patients)                  # of the best guess with the patient most like it, 0 to 1

A layer that reads x has the weight gradient r x and the bias gradient r, for whatever r the rest of the model sends
back (Phong 2018, section 3). Their quotient is x. It stays x over any number of steps of SGD on one patient, for both
sums have the same r's; over several patients it is a mixture, over AdamW's steps little more than signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.models import Schema, build_model
from fedloupe.study import Study

Floats = NDArray[np.float64]
Attack = Callable[[NDArray[Any]], Floats]
LEAST = 1e-30


def attack_on(study: Study, groups: tuple[str, ...]) -> Attack:
    """From an update (m), of one hospital or a sum, of any scale, to guesses (g, q) in the linear path's order: one by
    the linear path, and one by the token layers where the architecture has them.

    Args:
        study: its model.
        groups: feature groups.
    """
    model = build_model(study, Schema.of(study, groups))
    place, shapes, at = {}, {}, 0
    for name, parameter in model.named_parameters():
        place[name], shapes[name] = slice(at, at + parameter.numel()), tuple(parameter.shape)
        at += parameter.numel()

    def part(update: NDArray[Any], name: str) -> Floats:
        return np.asarray(update[place[name]], dtype=np.float64).reshape(shapes[name])

    kinds = [kind for kind in ("tokens.radiomics", "tokens.clinical") if f"{kind}.weight" in place]

    def attack(update: NDArray[Any]) -> Floats:
        bias = float(part(update, "wide.bias")[0])
        linear: Floats = part(update, "wide.weight").reshape(-1) / (bias if abs(bias) > LEAST else 1.0)
        if not kinds:
            return linear[None]
        tokens = [_read(part(update, f"{kind}.weight"), part(update, f"{kind}.bias")) for kind in kinds]
        return np.stack([linear, np.concatenate(tokens)])

    return attack


def _read(weight: Floats, bias: Floats) -> Floats:
    """(G*K) values behind the updates of G linear maps (G, K, d) and their biases (G, d), by least squares."""
    squares = (bias**2).sum(1)
    values: Floats = np.einsum("gkd,gd->gk", weight, bias) / np.maximum(squares, LEAST)[:, None]
    return values.reshape(-1)


def likeness(guesses: Floats, patients: Floats) -> float:
    """Largest size of a correlation between a guess (g, q) and a patient (n, q). Sizes, because the attacker can try
    both signs; the largest, because an attacker who knows some patients could tell which guess is of which."""
    return max(_correlation(one, own) for one in guesses for own in patients)


def _correlation(guess: Floats, values: Floats) -> float:
    a, b = guess - guess.mean(), values - values.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return abs(float(a @ b)) / size if size > 0 else 0.0
