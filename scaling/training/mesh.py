"""The mesh and the sharding rules: the only file that names mesh axes.

A pack's leading axis lies over `run`: its runs never talk to each other. Within a run
the batch lies over `data`, parameters and optimiser state are fully sharded over `data`
too (Rajbhandari et al. 2020, ZeRO stage 3), and wide dimensions are split over `model`
(Shoeybi et al. 2019, tensor parallelism). Families name the dimensions of their
parameters; the rules below say where each goes, and XLA adds the communication.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, get_args

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.errors import UserError, unknown
from scaling.layout import Layout, Remat

RUN, DATA, MODEL = "run", "data", "model"

# Dimension names that tensor parallelism splits.
_SPLIT = ("mlp", "kv_heads", "vocab")


@dataclasses.dataclass(frozen=True)
class Rules:
    """A mesh, and whether its data axis holds copies of the parameters or shards."""

    mesh: Mesh
    replicate: bool = False


def make(layout: Layout, devices: Sequence[Any] | None = None) -> Rules:
    """The rules over a mesh of the first `layout.devices` devices.

    Args:
      devices: by default those there are, as many of each process; those of a topology
        can be compiled for.

    Raises:
      UserError: fewer devices than the layout needs, or processes that get none.
    """
    devices = _of_all_processes(layout) if devices is None else devices
    if layout.devices > len(devices):
        raise UserError("layout", layout.to_json(), f"there are {len(devices)} devices")
    mesh = jax.make_mesh(
        (layout.run, layout.data, layout.model),
        (RUN, DATA, MODEL),
        axis_types=(AxisType.Auto,) * 3,
        devices=devices[: layout.devices],
    )
    return Rules(mesh, layout.replicate)


def _of_all_processes(layout: Layout) -> Sequence[Any]:
    """The devices, as many of each process first as the layout has for it."""
    devices, processes = jax.devices(), jax.process_count()
    if processes == 1:
        return devices
    if layout.devices % processes:
        text = f"{processes} hosts train together: give a multiple of that in devices"
        raise UserError("layout", layout.to_json(), text)
    each = layout.devices // processes
    taken = [
        [device for device in devices if device.process_index == process][:each]
        for process in range(processes)
    ]
    return [device for some in taken for device in some]


def _parameter(axes: tuple[str | None, ...], shape: tuple[int, ...], rules: Rules) -> P:
    """Spec of one parameter's own dimensions.

    The first dimension that tensor parallelism splits goes over `model`, the largest
    remaining one over `data`; a dimension that does not divide stays whole (the 257
    bytes of a vocabulary do: its logits are then computed on every device of `model`).
    """
    mesh = rules.mesh
    named = [i for i, name in enumerate(axes) if name]
    spec: list[str | None] = [None] * len(shape)
    split = [
        i for i in named if axes[i] in _SPLIT and shape[i] % mesh.shape[MODEL] == 0
    ]
    if split and mesh.shape[MODEL] > 1:
        spec[split[0]] = MODEL
    free = [i for i in named if not spec[i] and shape[i] % mesh.shape[DATA] == 0]
    # A vector is not worth a gather in every step.
    if free and len(named) > 1 and not rules.replicate:
        spec[max(free, key=lambda i: shape[i])] = DATA
    return P(*spec)


def _specs(tree: Any, rules: Rules, lead: int) -> Any:
    """A tree like `tree` of the PartitionSpecs of its leaves, without a run axis.

    What an optimiser keeps of a parameter in another rank, such as the row and column
    of a factored moment, is small and stays whole.

    Args:
      lead: run axes of the leaves, 0 or 1.
    """
    is_leaf = lambda x: isinstance(x, nnx.Variable)

    def of(leaf: Any) -> Any:
        axes = leaf.get_metadata("axes") if is_leaf(leaf) else ()
        return jax.tree.map(
            lambda x: (
                _parameter(axes, x.shape[lead:], rules)
                if len(axes) == x.ndim - lead
                else P()
            ),
            leaf,
        )

    return jax.tree.map(of, tree, is_leaf=is_leaf)


def state(tree: Any, rules: Rules, packed: bool = True) -> Any:
    """Shardings of a train state (or a part of it); with `packed`, a run axis leads."""
    first = (RUN,) if packed else ()
    return jax.tree.map(
        lambda spec: NamedSharding(rules.mesh, P(*first, *spec)),
        _specs(tree, rules, len(first)),
        is_leaf=lambda x: isinstance(x, P),
    )


def gather(tree: Any, rules: Rules) -> Any:
    """Parameters made whole over `data` for their use; their gradients are scattered.

    Left to itself, XLA takes the sharding of the parameters for that of activations as
    well, and moves those of the whole batch about.
    """
    if rules.mesh.shape[DATA] == rules.mesh.shape[MODEL] == 1:
        return tree
    whole = dataclasses.replace(rules, replicate=True)
    return jax.tree.map(
        _gather,
        tree,
        state(tree, whole, packed=False),
        state(tree, rules, packed=False),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, whole: NamedSharding, shard: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, whole)


def _scatter(
    whole: NamedSharding, shard: NamedSharding, _: None, gradient: jax.Array
) -> tuple[jax.Array]:
    # Summed whole first: asked for the shard at once, XLA reshards the activations.
    for sharding in (whole, shard):
        gradient = jax.lax.with_sharding_constraint(gradient, sharding)
    return (gradient,)


_gather.defvjp(lambda x, whole, shard: (_gather(x, whole, shard), None), _scatter)


def slots(mesh: Mesh) -> NamedSharding:
    """One entry a slot: values, losses. Leading axis is the run axis."""
    return NamedSharding(mesh, P(RUN))


def batches(mesh: Mesh) -> NamedSharding:
    """Training batches [slot, step, sequence, position]."""
    return NamedSharding(mesh, P(RUN, None, DATA))


def windows(mesh: Mesh) -> NamedSharding:
    """Evaluation windows [window, position], spread over every replica of one model."""
    return NamedSharding(mesh, P((RUN, DATA)))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Host arrays on the mesh; every process holds the whole of each."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, x.__getitem__), tree
    )


def get(array: jax.Array) -> np.ndarray:
    """The whole of an array on the host of every process; waits for it."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)


def agreed(mine: Any) -> np.ndarray:
    """What the first process says, in every process; all have to ask at once."""
    if jax.process_count() == 1:
        return np.asarray(mine)
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(mine)))


def any_process(*mine: bool) -> list[bool]:
    """Each of the flags, true where it is in any process; all have to ask at once."""
    if jax.process_count() == 1:
        return list(mine)
    told = multihost_utils.process_allgather(np.asarray(mine))
    return [bool(flag) for flag in told.any(0)]


def check(batch: int, layout: Layout) -> None:
    """Raises UserError where a batch or pack does not divide over the mesh."""
    if batch % (layout.data * layout.accumulate):
        raise UserError(
            "batch",
            batch,
            f"the mesh's data axis has {layout.data} devices and a step accumulates "
            f"{layout.accumulate} micro-batches; give a multiple of their product",
        )
    if layout.remat not in get_args(Remat):
        raise unknown("layout.remat", layout.remat, get_args(Remat))
    if layout.width % layout.run:
        raise UserError(
            "layout.width",
            layout.width,
            f"the mesh's run axis has {layout.run} devices; give a multiple of it",
        )
