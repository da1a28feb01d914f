"""More than one device: a mesh of them, and what the rooms above need to share samples out over it.

A sample is the unit of sharing: every device runs its share of the samples from start to end, with the noise that they
would have had on one device, and only sums over samples are communicated. So the number of devices is not seen in a
result but through rounding. All processes of a run over several must call the same functions with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def mesh(num_devices: int | None = None) -> Mesh:
    """All devices of all processes in one row, for the argument `mesh` of `rs.simulate` and `rs.fit`.

    After `jax.distributed.initialize()` these are the devices of the whole cluster.

    **Arguments**

    - `num_devices`: only so many, of one process; None for all.

    **Returns** a `jax.sharding.Mesh` with the axis "samples". Any other mesh will do as well: samples are shared out
    over all its axes.

    **Raises** ValueError if there are fewer devices.

    >>> import jax.random as jr, roughspike as rs
    >>> cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), current=1.5)
    >>> sol = rs.simulate(cell, t1=1.0, dt=0.01, key=jr.key(0), num_samples=64, mesh=rs.parallel.mesh(1))
    >>> rs.parallel.gather(sol.spikes.counts).shape
    (64, 1)
    """
    devices = jax.devices()
    if num_devices is not None:
        if not 1 <= num_devices <= len(devices):
            raise ValueError(
                f"num_devices must lie between 1 and {len(devices)}, the devices there are, got {num_devices}: leave "
                "it out for all; for several devices on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count=4"
            )
        devices = devices[:num_devices]
    return Mesh(np.array(devices), ("samples",), axis_types=(AxisType.Auto,))


def gather(tree: Any) -> Any:
    """The same tree with NumPy arrays of all samples, on every process.

    Needed for arrays that several processes hold shares of, before anything but `jax.numpy` sees them. A collective:
    every process must call it. Where there is one process it is `np.asarray` of every array.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> rs.parallel.gather({"x": jnp.arange(3)})
    {'x': array([0, 1, 2], dtype=int32)}
    """

    def one(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if not x.is_fully_addressable and not x.is_fully_replicated:
            spread_over = x.sharding
            assert isinstance(spread_over, NamedSharding)
            x = jax.jit(lambda y: y, out_shardings=NamedSharding(spread_over.mesh, PartitionSpec()))(x)
        return np.asarray(x)

    return jax.tree.map(one, tree)


def checked(mesh: Any) -> Mesh:
    """The mesh with automatic axes, which is what `jax.jit` shares work out over. **Raises** ValueError for no mesh."""
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}: pass mesh=rs.parallel.mesh()")
    # jax.make_mesh makes explicit axes, for programs in which every array says how it lies
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def check_shares(mesh: Mesh, count: int, what: str, remedy: str) -> None:
    """**Raises** ValueError if `count` things cannot be shared out evenly."""
    if count % mesh.size:
        raise ValueError(f"mesh has {mesh.size} devices and {what} is {count}, not a multiple of it: {remedy}")


def spread(
    f: Callable[..., Any],
    mesh: Mesh,
    arguments: Sequence[Any],
    in_axes: Sequence[int | None],
    out_axes: Any,
) -> Any:
    """f(index of the device, *arguments) on every device, for a share of each argument. Inside of `jit` only.

    The derivative with respect to an argument that all devices have whole is the sum over devices, once: it is that of
    the unsharded program. No further mean or sum over devices may be taken of it.

    **Arguments**

    - `in_axes`: which axis of each argument is shared out; None: every device has the whole.
    - `out_axes`: the same of what f returns, a prefix of its tree; None only for what is equal on all devices.
    """
    arrays, static = eqx.partition(tuple(arguments), eqx.is_array)
    spec = lambda axis: PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, mesh.axis_names)  # noqa: E731

    def body(arrays: Any) -> Any:
        return f(jax.lax.axis_index(mesh.axis_names), *eqx.combine(arrays, static))

    outs = jax.tree.map(spec, out_axes, is_leaf=lambda x: x is None)
    ins = (tuple(spec(axis) for axis in in_axes),)
    return jax.shard_map(body, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)(arrays)


def whole(tree: Any, mesh: Mesh | None) -> Any:
    """Inside of `jit`: every device has all of every array."""
    return along(tree, mesh, None)


def along(tree: Any, mesh: Mesh | None, axis: int | None) -> Any:
    """Inside of `jit`: the axis of every array is shared out over the devices. Without a mesh, nothing is done."""
    if mesh is None:
        return tree

    def one(x: Any) -> Any:
        if not eqx.is_array(x):
            return x
        spec: list[Any] = [None] * np.ndim(x)
        if axis is not None:
            spec[axis] = mesh.axis_names
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))

    return jax.tree.map(one, tree)


def place(tree: Any, mesh: Mesh | None) -> Any:
    """Every floating or whole number array put on every device of the mesh, from equal values on every process."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def one(x: Any) -> Any:
        if not eqx.is_array(x) or jnp.issubdtype(x.dtype, jax.dtypes.extended):
            return x
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def take(tree: Any, mesh: Mesh | None) -> Any:
    """The values of arrays that every device has whole, as arrays of this process alone."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)) if isinstance(x, jax.Array) else x, tree)


def several_processes(mesh: Mesh | None) -> bool:
    """Does the mesh have devices of more than one process?"""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def first_process(mesh: Mesh | None) -> bool:
    """True on the one process that writes files and shows progress."""
    return not several_processes(mesh) or jax.process_index() == 0


def any_process(flag: bool, mesh: Mesh | None) -> bool:
    """Is the flag up on any process? A collective, so that all of them take the same branch."""
    if mesh is None or not several_processes(mesh):
        return flag
    return bool(np.any(_from_all(np.asarray(flag, np.uint32), mesh)))


def lost(error: BaseException) -> bool:
    """Does this error say that another process cannot be reached any more?"""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "unavailable", "peer", "coordination", "deadline_exceeded"))


def check_same(values: dict[str, int], mesh: Mesh | None, remedy: str) -> None:
    """**Raises** ValueError on every process, naming what differs, unless all of them have these whole numbers."""
    if mesh is None or not several_processes(mesh):
        return
    rows = _from_all(np.array(list(values.values()), np.uint32), mesh)
    different = [name for name, column in zip(values, rows.T, strict=True) if len(set(column.tolist())) > 1]
    if different:
        raise ValueError(f"the processes disagree in {', '.join(different)}: {remedy}")


def _from_all(numbers: np.ndarray, mesh: Mesh) -> np.ndarray:
    """One row per device: the numbers that its process has."""
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    shape = (mesh.size, *numbers.shape)
    return gather(jax.make_array_from_callback(shape, rows, lambda index: numbers[None]))
