"""Tables made by known laws, and the laws bound to them."""

import numpy as np

from analysis import laws
from analysis.fitting.fit import Fit

# Besiroglu et al. 2024: E, A, B, alpha, beta.
BESIROGLU = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)


def grid(sizes: int = 6, budgets: int = 6) -> dict[str, np.ndarray]:
    """A factorial design over three decades each, of one family and corpus."""
    params, tokens = np.meshgrid(
        np.geomspace(5e7, 2e10, sizes), np.geomspace(1e9, 1e12, budgets)
    )
    zeros = np.zeros(params.size, int)
    columns = {"params": params.ravel(), "tokens": tokens.ravel()}
    return columns | {"family": zeros, "corpus": zeros}


def bind(name, columns, families=("a",), corpora=("d",)):
    centre = {key: float(np.log(columns[key]).mean()) for key in ("params", "tokens")}
    levels = {"family": families, "corpus": corpora}
    return laws.load(name).bind(levels, centre)


def additive(columns, constants=BESIROGLU):
    e, a, b, alpha, beta = constants
    return e + a / columns["params"] ** alpha + b / columns["tokens"] ** beta


def named(found: Fit) -> dict[str, float]:
    return dict(zip(found.law.names, found.values, strict=True))


def joint_table(rho_family=1.3, rho_corpus=0.7, noise=0.0, seed=0):
    """3 families x 2 corpora x 4 sizes x 4 budgets with planted data multipliers."""
    rng = np.random.default_rng(seed)
    one = grid(4, 4)
    parts, losses = [], []
    for family, rho_a in enumerate((1.0, rho_family, 1.0)):
        for corpus, rho_d in enumerate((1.0, rho_corpus)):
            codes = {"family": family, "corpus": corpus}
            part = one | {k: np.full(16, v) for k, v in codes.items()}
            seen = part | {"tokens": part["tokens"] * rho_a * rho_d}
            loss = additive(seen) + 0.2 * corpus
            parts.append(part)
            losses.append(loss * np.exp(noise * rng.normal(size=16)))
    columns = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
    return columns, np.concatenate(losses)


def noisy(seed=0, noise=0.01, sizes=4, budgets=4):
    columns = grid(sizes, budgets)
    rng = np.random.default_rng(seed)
    loss = additive(columns)
    return columns, loss * np.exp(noise * rng.standard_t(3, loss.size))
