"""Conformance of every family: a new file in scaling/families is tested unedited."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from scaling import families
from scaling.errors import UserError
from scaling.families import Images, Tokens, _layers
from scaling.run import Model
from tests.support.family_cases import (
    PICTURES,
    TEXT,
    abstract,
    build,
    case,
    inputs,
    serves,
    stirred,
)

SPEC, SMALL = TEXT.spec, TEXT.small
GROUPS = {"matrix", "embedding", "norm", "recurrence"}

TRAINED = [name for name in families.names() if not families.fitted(name)]
FITTED = [name for name in families.names() if families.fitted(name)]

every_family = pytest.mark.parametrize("name", TRAINED)
every_text_family = pytest.mark.parametrize(
    "name", [name for name in TRAINED if serves(name, "next_token")]
)
every_picture_family = pytest.mark.parametrize("name", families.names("denoise"))
every_fitted_family = pytest.mark.parametrize("name", FITTED)


apply = jax.jit(lambda model, *given: model(*given).y)


@functools.cache
def small(name):
    return build(name)


def tokens(batch=2, length=SMALL.length, seed=0):
    ids = np.random.default_rng(seed).integers(0, SMALL.vocab, (batch, length))
    return jnp.asarray(ids, jnp.int32)


def leaves_with_names(tree):
    return jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )


@every_family
def test_output_is_float32_of_the_right_shape_and_losses_are_scalar(name):
    spec = case(name).small
    call = jax.jit(lambda model, *given: model(*given))
    y, aux = call(small(name), *inputs(spec))
    text = isinstance(spec, Tokens)
    shape = (spec.length, spec.vocab) if text else spec.shape
    assert y.shape == (2, *shape) and y.dtype == jnp.float32
    assert all(loss.shape == () for loss in aux.values())
    objectives = families.load(name).OBJECTIVES
    assert objectives == (("next_token",) if text else ("denoise",))


@every_text_family
@pytest.mark.parametrize("length", [1, 7])
def test_any_length_is_served_and_prefixes_agree(name, length):
    ids = tokens(length=13)
    whole = apply(small(name), ids)
    np.testing.assert_allclose(
        apply(small(name), ids[:, :length]), whole[:, :length], rtol=1e-4, atol=1e-5
    )


@every_text_family
def test_no_output_depends_on_a_later_token(name):
    """Each position reads its own table row, so that its gradient stands alone."""
    length = SMALL.length
    spec = Tokens(vocab=length, length=length)
    model = build(name, spec)
    ids = jnp.arange(length)[None]
    weights = jax.random.normal(jax.random.key(1), (length,))

    def probe(rows, t):
        labels = families.groups(model)
        moved = jax.tree.map(
            lambda p, g: rows if g == "embedding" and p.shape == rows.shape else p,
            model,
            labels,
        )
        return moved(ids).y[0, t] @ weights

    tables = [
        leaf.get_value()
        for _, leaf in leaves_with_names(model)
        if leaf.get_metadata("group") == "embedding"
        and leaf.get_metadata("axes")[0] == "vocab"
    ]
    assert len(tables) == 1
    reach = np.stack(
        [
            np.abs(gradient).max(axis=-1)
            for gradient in jax.jit(jax.vmap(jax.grad(probe), in_axes=(None, 0)))(
                tables[0], jnp.arange(length)
            )
        ]
    )
    assert (np.triu(reach, k=1) == 0.0).all()
    config = families.load(name).ladder(8_000, spec)
    field = getattr(config, "receptive_field", lambda: length)()
    for t in range(length):
        assert (reach[t, max(0, t - field + 1) : t + 1] > 0.0).all()


@every_family
def test_each_leaf_has_a_group_and_axes(name):
    model = small(name)
    labels = families.groups(model)
    assert jax.tree.structure(labels) == jax.tree.structure(model)
    assert set(jax.tree.leaves(labels)) <= GROUPS
    expected = {"matrix", "embedding"}
    if serves(name, "next_token"):
        expected |= {"norm"}
    assert expected <= set(jax.tree.leaves(labels))
    for path, leaf in leaves_with_names(model):
        assert len(leaf.get_metadata("axes")) == leaf.ndim, path
        assert leaf.dtype == jnp.float32, path


@every_family
def test_groups_mask_optax_and_pick_dtypes(name):
    model = jax.tree.map(jnp.ones_like, small(name))
    labels = families.groups(model)
    decay = optax.add_decayed_weights(
        1.0, mask=jax.tree.map(lambda group: group == "matrix", labels)
    )
    updates, _ = decay.update(
        jax.tree.map(jnp.zeros_like, model), decay.init(model), model
    )
    for label, update in zip(
        jax.tree.leaves(labels), jax.tree.leaves(updates), strict=True
    ):
        assert bool(jnp.any(update != 0)) == (label == "matrix")


@every_family
def test_bfloat16_matrices_change_little(name):
    model = small(name)
    labels = families.groups(model)
    narrow = jax.tree.map(
        lambda p, group: (
            p.astype(jnp.bfloat16) if group in ("matrix", "embedding") else p
        ),
        model,
        labels,
    )
    given = inputs(case(name).small)
    wide, low = apply(model, *given), apply(narrow, *given)
    assert low.dtype == jnp.float32
    assert 0.0 < float(jnp.abs(low - wide).max()) < 0.05 * float(jnp.abs(wide).max())


QUICK = ("transformer", "lstm", "unet", "dit", "mixer")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in TRAINED
    ],
)
def test_packed_runs_compute_what_each_computes_alone(name):
    own = case(name)
    models = [stirred(small(name), seed=n) for n in range(2)]
    given = [inputs(own.small, seed=n) for n in range(2)]
    stacked = lambda trees: jax.tree.map(lambda *x: np.stack(x), *trees)
    packed = jax.jit(jax.vmap(apply))(stacked(models), *stacked(given))
    for n in range(2):
        alone = apply(models[n], *given[n])
        np.testing.assert_allclose(packed[n], alone, rtol=1e-4, atol=1e-4)
    assert not np.allclose(packed[0], packed[1])


@every_text_family
def test_the_first_loss_is_that_of_guessing(name):
    y = apply(small(name), tokens())
    every_label = jax.nn.logsumexp(y, axis=-1) - y.mean(axis=-1)
    assert 0 < every_label.mean() - np.log(SMALL.vocab) < 0.1


@every_picture_family
@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_the_first_loss_is_that_of_the_best_constant(name, size):
    """Targets have unit variance and are nothing that a new network knows of."""
    model = build(name, PICTURES.spec, size)
    y = apply(model, *inputs(PICTURES.spec, batch=16))
    assert 0 < jnp.mean(y**2) < 0.1


@every_family
@pytest.mark.parametrize("size", [0, 72_000, 1e6, 1e8, 1e9])
def test_stated_size_is_what_the_model_has(name, size):
    family, own = families.load(name), case(name)
    spec = own.long if own is PICTURES else own.spec
    size = size or own.least
    config = family.ladder(size, spec)
    total, embedding = _layers.count(abstract(name, config, spec))
    assert family.params(config) == total - embedding
    assert abs((total - embedding) / size - 1.0) <= 0.1
    if own is TEXT:
        assert embedding == 2 * spec.vocab * config.width
    else:  # tables of labels and of bytes
        condition = getattr(config, "condition", config.width)
        assert embedding == spec.labels * condition + 257 * max(8, condition // 2)


@every_family
@pytest.mark.parametrize("large", [False, True])
def test_ladder_is_near_every_target_and_never_falls(name, large):
    family, own = families.load(name), case(name)
    spec = own.long if large else own.spec
    smallest = getattr(family, "smallest", lambda spec: 0)(spec)
    sizes, targets = [], np.geomspace(max(own.least, smallest), 1e9, 500)
    for target in targets:
        sizes.append(family.params(family.ladder(target, spec)))
    assert np.abs(np.array(sizes) / targets - 1.0).max() <= 0.1
    assert (np.diff(sizes) >= 0).all()


@every_family
def test_ladder_by_flops_is_near_every_target_and_never_falls(name):
    family, spec = families.load(name), case(name).spec
    targets = np.geomspace(*case(name).flops, 300)
    flops = [
        family.flops(family.ladder(target, spec, by="flops"), spec)
        for target in targets
    ]
    assert np.abs(np.array(flops) / targets - 1.0).max() <= 0.1
    assert (np.diff(flops) >= 0).all()


@every_family
def test_both_depth_and_width_grow_and_large_widths_fill_tiles(name):
    own = case(name)
    ladder = functools.partial(families.load(name).ladder, spec=own.spec)
    small, middle, large = (ladder(size) for size in (own.least, 1e6, 1e9))
    assert small.depth < middle.depth < large.depth
    assert small.width < middle.width < large.width
    assert large.width % 128 == 0 and large.hidden % 128 == 0


class Stream:
    """Batches of 2 x 9 tokens."""

    vocab, unique_steps = SMALL.vocab, 50

    def batch(self, step):
        return np.asarray(tokens(seed=step))


@functools.cache
def fitted_model(name):
    family = families.load(name)
    return family.fit(Stream(), family.ladder(8_000, SMALL), {"steps": 50})


@every_fitted_family
def test_fitted_nats_are_float32_and_no_earlier_one_depends_on_a_later_token(name):
    assert "next_token" in families.load(name).OBJECTIVES
    ids = np.asarray(tokens(seed=3))
    nats = fitted_model(name).nats(ids)
    assert nats.shape == ids.shape and nats.dtype == np.float32
    for t in range(SMALL.length):
        changed = ids.copy()
        changed[:, t] = (ids[:, t] + 1) % SMALL.vocab
        again = fitted_model(name).nats(changed)
        np.testing.assert_array_equal(again[:, :t], nats[:, :t])
        assert (again[:, t] != nats[:, t]).any()
        np.testing.assert_array_equal(fitted_model(name).nats(ids[:, :t]), nats[:, :t])


@every_fitted_family
def test_fitted_text_is_known_better_than_by_guessing(name):
    loss = fitted_model(name).nats(Stream().batch(0)).mean()
    assert loss < np.log(SMALL.vocab) - 0.1
    assert all(isinstance(x, np.ndarray) for x in fitted_model(name).facts.values())


@every_fitted_family
def test_ladder_of_a_fitted_family_is_near_every_target_and_never_falls(name):
    family, targets = families.load(name), np.geomspace(8_000, 1e9, 100)
    configs = [family.ladder(target, SPEC) for target in targets]
    sizes = [family.params(config) for config in configs]
    assert np.abs(np.array(sizes) / targets - 1.0).max() <= 0.1
    assert (np.diff(sizes) >= 0).all()
    assert (np.diff([family.flops(config, SPEC) for config in configs]) >= 0).all()
    assert (np.diff([family.memory(config) for config in configs]) >= 0).all()


@pytest.mark.parametrize("name", families.names())
def test_wrong_input_is_refused(name):
    family, (spec, *_) = families.load(name), case(name)
    with pytest.raises(UserError, match="widht"):
        family.ladder(20_000, spec, widht=4)
    with pytest.raises(UserError, match="size_by"):
        family.ladder(20_000, spec, by="layers")
    with pytest.raises(UserError, match=r"model\.size.*members"):
        family.ladder(3, spec)
    other = Images(8, 8) if isinstance(spec, Tokens) else Tokens(257, 64)
    what = "pictures" if isinstance(spec, Tokens) else "tokens"
    with pytest.raises(UserError, match=rf"model\.family.*{name}.*gives {what}"):
        families.member(Model(name, 20_000), other)


def test_option_values_are_checked():
    with pytest.raises(UserError, match="queries_per_kv"):
        families.load("transformer").ladder(8_000, SPEC, queries_per_kv=0)
    with pytest.raises(UserError, match="taps"):
        families.load("convolution").ladder(8_000, SPEC, taps=1)
    for name in ("transformer", "moe"):
        with pytest.raises(UserError, match="qk_norm"):
            families.load(name).ladder(8_000, SPEC, qk_norm="no")


@pytest.mark.parametrize("name", ["transformer", "moe"])
def test_parameters_without_qk_norm_are_counted(name):
    family = families.load(name)
    config = family.ladder(24_000, SPEC, qk_norm=False)
    total, embedding = _layers.count(abstract(name, config, SPEC))
    assert total - embedding == family.params(config)


def test_convolution_sees_exactly_the_powers_of_its_taps():
    ladder = families.load("convolution").ladder
    config = ladder(8_000, SPEC)
    assert config.dilations() == [1, 4, 16] and config.receptive_field() == 64
    assert ladder(8_000, SPEC, taps=2).dilations() == [1, 2, 4, 8, 16, 32]


def test_lstm_forgets_little_at_first():
    bias = small("lstm").blocks[0].lstm.bias[...]
    assert (bias[1] == 1.0).all() and (bias[jnp.array([0, 2, 3])] == 0.0).all()


def test_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'transformer'"):
        families.load("transfomer")
