"""Model families, one file each, found by import, and the interface they share.

A family is a module that defines

    OBJECTIVES: tuple[str, ...]     the objectives it serves, e.g. ("next_token",)
    ladder(target, spec, by="params", **options) -> Config
        a frozen dataclass: the family's member whose non-embedding parameters
        ("params", "active") or forward FLOPs per example ("flops") are within 10% of
        `target` and never fall as the target rises. Unknown options raise UserError.
    Model(config, spec, rngs)       an nnx.Module, called as
        model(x, cond=None) -> Output(y, aux)
        for Tokens: x int32 [batch, length], y float32 logits [batch, length, vocab],
            y[:, t] depends on x[:, :t + 1] alone;
        for Images: x and y float32 [batch, height, width, channels], cond Conditions;
            y is F of Karras et al. 2022, eq. 7, the network that scaling/diffusion.py
            makes a denoiser of
    flops(config, spec) -> float    forward matrix-product FLOPs of one example

    params(config) -> int           non-embedding parameters

and names its paper in the docstring. It may also define `active(config, spec)`, the
parameters that work on one token, embeddings included, where not all do; and
`smallest(spec)`, the parameters of the ladder's smallest member, where long sequences
make that more than 8 thousand. A family that is not trained by gradient descent has no
Model but

    fit(stream, config, values) -> Fitted
        from a run's TokenStream and Run.values(), on the host;
        fitted.nats(tokens) -> float32 [n, length], the reading of int32 [n, length];
        fitted.log_probabilities(tokens, at) -> float32 [n, vocab], of what may stand at
        place at[i] of row i; fitted.facts: arrays by name, kept beside the record
    memory(config) -> int           bytes of what is fitted

and its flops(config, spec) count one example, in training as in scoring.

Most models of text are a Decoder (_decoder.py) of their blocks; what those of pictures
share is in _pictures.py.

A module is written as if for one device and one run. Through `param` in _layers.py it
labels every parameter with its `group`, its dimensions (`axes`) and the dimensions that
are summed over (`contracted`); the rules for sharding, weight decay and width read
these labels and nothing else. Modules compute in the dtype of the parameters they are
given: matrices and embeddings may come in bfloat16, norms and recurrences stay float32.
There is no mutable state.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from scaling import plugins, run
from scaling.errors import UserError


class Tokens(NamedTuple):
    """Spec of a token corpus.

    Attributes:
      vocab: ids, the separator (the last of them) included.
      length: of a sequence.
      prefix: tokens at its beginning that the model reads and that are not scored, as a
        caption is.
    """

    vocab: int
    length: int
    prefix: int = 0

    @property
    def row(self) -> int:
        """Integers that hold one example."""
        return self.length


class Images(NamedTuple):
    """Spec of a corpus of pictures.

    Attributes:
      height, width, channels: of every picture.
      labels: the number of classes, 0 for none.
      caption: bytes of a caption, 0 for none; a shorter one is padded with 256.
      mean, std: of the whole corpus's pixels over 255, by which pictures are
        standardised; never those of a subset.
    """

    height: int
    width: int
    channels: int = 1
    labels: int = 0
    caption: int = 0
    mean: float = 0.0
    std: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def size(self) -> int:
        """Values of one picture."""
        return self.height * self.width * self.channels

    @property
    def row(self) -> int:
        """Integers that hold one example: pixels, any label, bytes of the caption."""
        return self.size + (self.labels > 0) + self.caption


Spec = Tokens | Images


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """The fields of a spec and its kind, ready for `json.dumps`."""
    return {"kind": type(spec).__name__, **spec._asdict()}


def spec_from_json(body: Mapping[str, Any]) -> Spec:
    """The inverse of `spec_to_json`."""
    fields = dict(body)
    kinds: dict[str, type[Tokens] | type[Images]] = {"Tokens": Tokens, "Images": Images}
    return kinds[fields.pop("kind")](**fields)


class Conditions(NamedTuple):
    """What a denoiser reads beside the noisy picture.

    Attributes:
      noise: float32 [batch], ln(sigma) / 4 (Karras et al. 2022, table 1).
      label: int32 [batch] below Images.labels; Images.labels itself where the label is
        withheld. None where the corpus has none.
      caption: int32 [batch, Images.caption] in 0 to 256; 256 throughout where the
        caption is withheld. None where the corpus has none.
    """

    noise: Any
    label: Any = None
    caption: Any = None


class Output(NamedTuple):
    """What a model returns: `y`, and auxiliary scalar losses by name."""

    y: Any
    aux: dict[str, Any]


def names(objective: str = "") -> list[str]:
    """All families, or those that serve an objective; no family is imported."""
    here = sys.modules[__name__]
    known = plugins.names(here, "ladder")
    if not objective:
        return known
    served = {name: plugins.constant(here, name, "OBJECTIVES") for name in known}
    return [name for name in known if objective in (served[name] or ())]


def load(name: str) -> ModuleType:
    """The family's module. Raises UserError for an unknown name."""
    return plugins.load(sys.modules[__name__], name, "model.family", "ladder")


def fitted(name: str) -> bool:
    """Whether the family is fitted as a whole and not trained by gradient descent."""
    return hasattr(load(name), "fit")


def member(model: run.Model, spec: Spec) -> tuple[ModuleType, Any]:
    """(family's module, its Config) of what a run names.

    Raises:
      UserError: a family, size or option that does not exist, or a family that does
        not serve such a corpus.
    """
    family = load(model.family)
    needed, what = "next_token", "tokens"
    if isinstance(spec, Images):
        needed, what = "denoise", "pictures"
    if needed not in family.OBJECTIVES:
        raise UserError(
            "model.family",
            model.family,
            f"the corpus gives {what}, and this family serves "
            f"{', '.join(family.OBJECTIVES)}; families for {needed}: "
            f"{', '.join(names(needed))}",
        )
    by = model.size_by
    return family, family.ladder(model.size, spec, by=by, **dict(model.options))


def groups(model: Any) -> Any:
    """A tree like `model` that labels each leaf; decay and precision rules read it.

    "matrix", "embedding" (input table and head), "norm" (gains and biases) or
    "recurrence" (what meets a state that is carried through time). The leaves are
    strings, so that `jax.tree.map(rule, groups(model), model)` reaches each parameter
    with its label, and `jax.tree.map(lambda group: group == "matrix", groups(model))`
    is a mask for optax. `model` may be abstract (jax.eval_shape).
    """
    import jax
    from flax import nnx

    def label(leaf: Any) -> Any:
        return leaf.replace(leaf.get_metadata("group"))

    return jax.tree.map(label, model, is_leaf=lambda x: isinstance(x, nnx.Variable))
