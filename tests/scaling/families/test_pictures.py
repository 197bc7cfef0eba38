"""What families of pictures share, and what each of their options does."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from scaling import families
from scaling.errors import UserError
from scaling.families import Images, _layers, mixer, unet
from scaling.families import _patches as patches
from scaling.families._convolution import convolve
from scaling.families._pictures import groups_of
from scaling.layout import Layout
from scaling.planning import cost
from scaling.training import mesh
from tests.support.family_cases import PICTURES, build, inputs, scalar, stirred

NAMES = families.names("denoise")
every_family = pytest.mark.parametrize("name", NAMES)
quick_unet = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "unet" else pytest.mark.slow) for n in NAMES],
)

apply = jax.jit(lambda model, *given: model(*given).y)


@functools.cache
def small(name):
    return stirred(build(name))


def on(platform, function):
    """The function as it is traced for a platform."""

    def traced(*given):
        with _layers.tracing(_layers.Tracing(Layout(platform), lambda tree: tree)):
            return function(*given)

    return jax.jit(traced)


# --- Convolution -------------------------------------------------------------


# With 3 x 3 taps, pictures of even sizes go by squares of 2 x 2 pixels.
@pytest.mark.parametrize(
    "taps, height, width",
    [(1, 4, 6), (3, 4, 6), (3, 2, 2), (3, 5, 4), (3, 4, 1), (5, 4, 6)],
)
def test_convolution_by_products_is_that_of_xla_and_so_are_its_gradients(
    taps, height, width
):
    numbers = np.random.default_rng(taps)
    x = numbers.normal(size=(3, height, width, 2)).astype(np.float32)
    kernel = numbers.normal(size=(taps, taps, 3, 7)).astype(np.float32)

    def scalar(x, kernel):
        y = convolve(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    descent = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)
    found, wanted = (on(p, descent)(x, kernel) for p in ("cpu", "gpu"))
    for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    # The definition, at one pixel of the corner.
    reach = taps // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    pixel = np.einsum("cijb,ijco->ob", padded[:, :taps, :taps], kernel)
    np.testing.assert_allclose(found[0][1][:, 0, 0], pixel, rtol=1e-5, atol=1e-5)


def test_a_shorter_type_keeps_its_digits_in_a_convolution():
    numbers = np.random.default_rng(0)
    x = jnp.asarray(numbers.normal(size=(16, 4, 4, 8)), jnp.bfloat16)
    kernel = jnp.asarray(numbers.normal(size=(3, 3, 16, 8)), jnp.bfloat16)
    exact = on("cpu", convolve)(x.astype(jnp.float32), kernel.astype(jnp.float32))
    found = on("cpu", convolve)(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-7, atol=0.1)


def test_convolution_by_squares_has_4_of_9_multiplications():
    x, kernel = jnp.zeros((32, 8, 8, 16)), jnp.zeros((3, 3, 32, 32))
    descent = jax.grad(lambda x, k: jnp.sum(jnp.sin(convolve(x, k))), argnums=(0, 1))
    counts = {
        platform: cost.flops_xla(on(platform, descent).lower(x, kernel))[0]
        for platform in ("cpu", "gpu")
    }
    # What is done to kernels comes on top.
    assert 4 / 9 < counts["cpu"] / counts["gpu"] < 4.5 / 9


def test_convolutions_of_many_runs_at_once_are_those_of_each():
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
    kernel = numbers.normal(size=(2, 3, 3, 3, 5)).astype(np.float32)
    descent = jax.grad(lambda x, k: jnp.sum(jnp.sin(convolve(x, k))), argnums=(0, 1))
    packed = jax.jit(jax.vmap(descent))(x, kernel)
    for n in range(2):
        alone = jax.jit(descent)(x[n], kernel[n])
        for both, one in zip(packed, alone, strict=True):
            np.testing.assert_allclose(both[n], one, rtol=1e-4, atol=1e-4)


def test_programs_for_a_cpu_have_no_convolution_and_others_do():
    given = inputs(PICTURES.small)
    for platform, there in (("cpu", False), ("gpu", True), ("tpu", True)):
        lowered = on(platform, lambda model: model(*given).y).lower(small("unet"))
        assert ("convolution" in lowered.as_text()) == there


def test_a_unet_gives_the_same_on_every_platform():
    given = inputs(PICTURES.small)
    cpu, gpu = (on(p, lambda m: m(*given).y)(small("unet")) for p in ("cpu", "gpu"))
    np.testing.assert_allclose(cpu, gpu, rtol=1e-4, atol=1e-4)


# --- What a model is told ----------------------------------------------------


@every_family
def test_noise_label_and_caption_all_count_and_only_for_their_own_picture(name):
    spec, model = PICTURES.small, small(name)
    x, cond = inputs(spec)
    base = apply(model, x, cond)
    others = (
        cond._replace(noise=cond.noise.at[0].add(0.1)),
        cond._replace(label=(cond.label.at[0].add(1)) % spec.labels),
        cond._replace(label=cond.label.at[0].set(spec.labels)),
        cond._replace(caption=cond.caption.at[0, 2].add(1) % 257),
    )
    for other in others:
        moved = apply(model, x, other)
        assert float(jnp.abs(moved[0] - base[0]).max()) > 1e-4
        np.testing.assert_allclose(moved[1], base[1], rtol=1e-5, atol=1e-5)


def test_padding_says_nothing_and_order_does():
    spec = Images(4, 4, caption=8)
    model = stirred(build("dit", spec))
    x, cond = inputs(spec)
    caption = cond.caption.at[:].set(256).at[:, :4].set(jnp.array([97, 98, 99, 100]))
    condition = lambda caption: apply(model, x, cond._replace(caption=caption))
    shorter = condition(caption[:, :4])
    np.testing.assert_allclose(condition(caption), shorter, rtol=1e-4, atol=1e-5)
    backwards = caption.at[:, :4].set(caption[:, 3::-1])
    assert float(jnp.abs(condition(backwards) - shorter).max()) > 1e-4
    # One that is withheld is no caption, and not a number out of nothing.
    assert np.isfinite(condition(jnp.full_like(caption, 256))).all()


def test_a_withheld_label_adds_nothing():
    spec = Images(4, 4, labels=3)
    model = stirred(build("mixer", spec))
    x, cond = inputs(spec)
    withheld = apply(model, x, cond._replace(label=jnp.full(2, 3)))
    model.condition.label = None
    np.testing.assert_allclose(withheld, apply(model, x, cond), rtol=1e-5, atol=1e-6)


# --- Families ----------------------------------------------------------------


@every_family
def test_every_pixel_of_the_output_depends_on_every_pixel(name):
    """Beyond what one convolution sees; the U-Net through its low resolution."""
    model = small(name)
    x, cond = inputs(PICTURES.small)
    moved = x.at[:, 0, 0].add(1.0)
    change = apply(model, moved, cond) - apply(model, x, cond)
    assert float(jnp.abs(change).min(axis=(1, 2, 3)).min()) > 0.0


@quick_unet
def test_devices_together_compute_what_one_does(name):
    """Batch and parameters over two, wide dimensions over two; gradients too."""
    layout, model = Layout(data=2, model=2), small(name)
    rules = mesh.make(layout)
    given = inputs(PICTURES.small, batch=4)
    how = _layers.Tracing(layout, functools.partial(mesh.gather, rules=rules))

    def loss(model, *given):
        with _layers.tracing(how):
            return scalar(_layers.gathered(model), *given)

    shardings = mesh.state(model, rules, packed=False)
    split = {axis for leaf in jax.tree.leaves(shardings) for axis in leaf.spec}
    assert {"data", "model"} <= split
    over = NamedSharding(rules.mesh, PartitionSpec("data"))
    placed = jax.tree.map(lambda _: over, given)
    with jax.set_mesh(rules.mesh):
        descent = jax.value_and_grad(loss)
        sharded = jax.jit(descent, in_shardings=(shardings, *placed))(model, *given)
    alone = jax.jit(jax.value_and_grad(scalar))(model, *given)
    for a, b in zip(*map(jax.tree.leaves, (sharded, alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_patches_are_cut_and_joined_again():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    cut = patches.cut(x, 2)
    assert cut.shape == (2, 6, 12)
    np.testing.assert_array_equal(cut[1, 4], x[1, 2:4, 2:4].reshape(-1))
    np.testing.assert_array_equal(patches.joined(cut, (4, 6, 3), 2), x)


def test_the_mixers_layer_over_patches_is_a_plain_sum_over_them():
    layer = stirred(mixer.OverPatches(3, 5, _layers.nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    up, down = layer.up[...], layer.down.kernel[...]
    for b in range(2):
        for channel in range(4):
            hidden = [
                sum(x[b, p, channel] * up[p, u] for p in range(3)) for u in range(5)
            ]
            units = jax.nn.gelu(np.array(hidden, np.float32), approximate=True)
            wanted = [sum(units[u] * down[u, p] for u in range(5)) for p in range(3)]
            np.testing.assert_allclose(layer(x)[b, :, channel], wanted, rtol=1e-4)


def test_every_place_is_its_own():
    for width in (8, 10, 64):
        where = patches.places(5, 7, width)
        apart = np.linalg.norm(where[:, None] - where, axis=-1) + np.eye(35)
        assert where.shape == (35, width) and apart.min() > 0.1


def test_halving_averages_and_doubling_repeats():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    means = unet.halved(x)[0, :, :, 0]
    np.testing.assert_array_equal(means, [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(unet.halved(unet.doubled(x)), x)


@pytest.mark.parametrize(
    "size, levels", [(8, 2), (12, 2), (16, 3), (28, 3), (32, 4), (64, 4), (6, 2)]
)
def test_there_are_as_many_resolutions_as_leave_four_pixels(size, levels):
    assert unet.ladder(3e5, Images(size, size)).levels == levels


def test_groups_of_a_norm_have_four_channels_or_more():
    for channels in (4, 6, 10, 22, 64, 576, 1024):
        groups = groups_of(channels)
        assert channels % groups == 0 and channels >= 4 * groups and groups <= 32
    assert groups_of(1024) == 32


def test_attention_is_added_at_the_lowest_resolution_alone():
    spec = Images(16, 16)
    given = unet.ladder(3e5, spec, attention=True)
    model = build("unet", spec, 3e5)
    plain = unet.ladder(3e5, spec)
    assert given.attention and not plain.attention
    extra = 16 * given.width**2 + 4 * given.width
    bare = unet.params(unet.dataclasses.replace(given, attention=False))
    assert unet.params(given) - bare == given.depth * extra
    kinds = lambda stage: {type(m).__name__ for m in [*stage.first, *stage.rest]}
    assert kinds(model.low) == {"Block"}
    made = jax.eval_shape(lambda: unet.Model(given, spec, _layers.nnx.Rngs(0)))
    assert kinds(made.low) == {"Block", "Attention"}
    assert all(kinds(s) == {"Block"} for s in [*made.down, *made.up])


@pytest.mark.parametrize(
    "name, spec, given, said",
    [
        ("unet", Images(9, 8), {}, r"options\.levels 2: .*9 x 8 .*halved 1 times"),
        ("unet", Images(12, 12), {"levels": 4}, r"levels 4: .*multiples of 8"),
        ("unet", Images(8, 8), {"levels": 5}, r"levels 5: 2, 3 or 4"),
        ("unet", Images(8, 8), {"levels": True}, r"levels True"),
        ("unet", Images(8, 8), {"attention": 1}, r"attention 1: True or False"),
        ("dit", Images(8, 9), {}, r"options\.patch 2: .*8 x 9 .*squares of 2 x 2"),
        ("mixer", Images(8, 8), {"patch": 3}, r"patch 3: .*8 x 8"),
        ("dit", Images(8, 8), {"patch": 0}, r"patch 0: give 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, spec, given, said):
    with pytest.raises(UserError, match=said) as refused:
        families.load(name).ladder(1e5, spec, **given)
    assert "\n" not in str(refused.value)
