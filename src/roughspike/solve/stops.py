"""Where a run must stop: jumps of the driver and save times, laid out in the cells of the grid."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike.gradients.base import Local
from roughspike.paths.brownian import BrownianPath
from roughspike.paths.drawn import DrawnPath, DrawnRows
from roughspike.paths.realised import RealisedPath
from roughspike.solve.stepping import Piece

GRID, JUMP, SAVE = 0, 1, 2


class Tables(eqx.Module):
    """The path by cells, jumps and save times by cell and place r in (0, 1] of it; cell = steps where there is none."""

    increments: jax.Array | DrawnRows
    areas: jax.Array | DrawnRows | None
    jump_cell: jax.Array
    jump_r: jax.Array
    jump_sizes: jax.Array
    save_cell: jax.Array
    save_r: jax.Array
    uniforms: jax.Array

    def local(self, cell: jax.Array, count: int, jump: jax.Array, save: jax.Array) -> Local:
        """The rows of the next `count` cells, jump and save time; the last ones beyond the end."""
        one = jnp.ones((), self.increments.dtype)
        cells = cell + jnp.arange(count, dtype=cell.dtype)
        jumps, saves = self.jump_r.shape[0], self.save_r.shape[0]
        return Local(
            increments=_row(self.increments, cells),
            areas=None if self.areas is None else _row(self.areas, cells),
            jump_r=_row(self.jump_r, jump) if jumps else one,
            jump_size=_row(self.jump_sizes, jump) if jumps else jnp.zeros(self.increments.shape[1:], one.dtype),
            save_r=_row(self.save_r, save) if saves else one,
        )

    def piece(self, cell: jax.Array) -> Piece:
        """The path on a cell."""
        return Piece(_row(self.increments, cell), None if self.areas is None else _row(self.areas, cell))

    def next_stop(self, jump: jax.Array, save: jax.Array, steps: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Cell, place and kind (GRID, JUMP, SAVE) of the next stop that is no mere grid point; at last the end.

        A save time on the grid counts as GRID.
        """
        kind, cell = jnp.full((), GRID, jnp.int32), jnp.full((), steps - 1, jnp.int32)
        place = jnp.ones((), self.increments.dtype)
        if self.save_r.shape[0]:
            at, r = _next(self.save_cell, save, steps), _row(self.save_r, save)
            here = at <= cell
            cell, place = jnp.minimum(cell, at), jnp.where(here, r, place)
            kind = jnp.where(here & (r < 1), SAVE, kind)
        if self.jump_r.shape[0]:
            at, r = _next(self.jump_cell, jump, steps), _row(self.jump_r, jump)
            here = (at < cell) | ((at == cell) & (r <= place))
            cell, place = jnp.minimum(cell, at), jnp.where(here, r, place)
            kind = jnp.where(here, JUMP, kind)
        return cell, place, kind

    def save_due(self, cell: jax.Array, save: jax.Array, end: jax.Array) -> jax.Array:
        """Is the next save time in this cell, and reached at its place `end`?"""
        saves = self.save_cell.shape[0]
        if not saves:
            return jnp.zeros((), bool)
        return (save < saves) & (_row(self.save_cell, save) == cell) & (_row(self.save_r, save) <= end)

    def add(self, sums: Tables, cell: jax.Array, jump: jax.Array, save: jax.Array, rows: Local) -> Tables:
        """Add cotangents of what `local` gave, per iteration, into `sums`, tables of cotangents."""
        cells = cell[:, None] + jnp.arange(rows.increments.shape[1], dtype=cell.dtype)[None]
        pairs = [
            (self.increments, sums.increments, cells, rows.increments),
            (self.areas, sums.areas, cells, rows.areas),
            (self.jump_r, sums.jump_r, jump, rows.jump_r),
            (self.jump_sizes, sums.jump_sizes, jump, rows.jump_size),
            (self.save_r, sums.save_r, save, rows.save_r),
        ]
        where = lambda x: (x.increments, x.areas, x.jump_r, x.jump_sizes, x.save_r)  # noqa: E731
        leaf = lambda x: x is None or isinstance(x, DrawnRows)  # noqa: E731
        return eqx.tree_at(where, sums, [_plus(*pair) for pair in pairs], is_leaf=leaf)


def _plus(table: Any, sums: Any, k: jax.Array, cotangents: Any) -> Any:
    """`sums` of cotangents of a table, and those of its rows k."""
    if isinstance(table, DrawnRows):
        return table.plus(sums, k, cotangents)
    return sums if sums is None or not sums.size else sums.at[k].add(cotangents, mode="drop")


def draw_path(driver: Any, key: Any, t0: jax.Array, t1: jax.Array, steps: int) -> RealisedPath | DrawnPath:
    """The driver on the grid, drawn now, or lazily if it wants that."""
    draw = driver.drawn if isinstance(driver, BrownianPath) and driver.lazy else driver.realise
    return draw(key, t0, t1, steps, t0.dtype)


def _row(table: Any, k: jax.Array) -> jax.Array:
    """Row or rows k, the last one (or others, of rows that are drawn) beyond the end."""
    if isinstance(table, DrawnRows):
        return table[k]
    return jnp.take(table, k, axis=0, mode="clip")


def _next(cells: jax.Array, k: jax.Array, none: int) -> jax.Array:
    """Entry k, `none` beyond the end."""
    return jnp.where(k < cells.shape[0], _row(cells, k), none)


def make_tables(
    path: RealisedPath | DrawnPath | None,
    t0: jax.Array,
    h: jax.Array,
    steps: int,
    save_at: jax.Array | None,
    uniforms: jax.Array,
) -> Tables:
    """Lay out a path (None: no driver) and save times."""
    dtype = t0.dtype
    none = jnp.zeros(0, dtype)
    jump_times = none if path is None else path.jump_times
    jump_cell, jump_r = cells(jump_times, t0, h, steps, snap=0.0)
    saves = none if save_at is None else save_at
    save_cell, save_r = cells(saves, t0, h, steps, snap=float(jnp.finfo(dtype).eps) ** 0.5)
    return Tables(
        increments=jnp.zeros((1, 0), dtype) if path is None else path.increments,
        areas=None if path is None else path.areas,
        jump_cell=jump_cell,
        jump_r=jump_r,
        jump_sizes=jnp.zeros((0, 0), dtype) if path is None else path.jump_sizes,
        save_cell=save_cell,
        save_r=save_r,
        uniforms=uniforms,
    )


def cells(times: jax.Array, t0: jax.Array, h: jax.Array, steps: int, snap: float) -> tuple[jax.Array, jax.Array]:
    """Cell and place r in (0, 1] of times in (t0, t1]; t0 is (0, 0), +inf is (steps, 1).

    With `snap`, a place as near as that to a grid point is that grid point.
    """
    x = (times - t0) / h
    finite = jnp.isfinite(x)
    x = jnp.where(finite, x, 0.5)
    if snap:
        fixed = jax.lax.stop_gradient(x)
        x = jnp.where(jnp.abs(fixed - jnp.round(fixed)) <= snap, jnp.round(fixed) + (x - fixed), x)
    cell = jnp.clip(jnp.ceil(jax.lax.stop_gradient(x)).astype(jnp.int32) - 1, 0, steps - 1)
    r = x - cell.astype(x.dtype)
    r = jnp.where(r > 1, 1.0, jnp.where(r < 0, 0.0, r)).astype(x.dtype)
    return jnp.where(finite, cell, steps), jnp.where(finite, r, 1.0).astype(x.dtype)


def cuts(save_at: np.ndarray, window: tuple[float, float], steps: int, dtype: np.dtype) -> int:
    """How many iterations the save times may cost: those that are off the grid or at t0."""
    x = (np.asarray(save_at, np.float64) - window[0]) / ((window[1] - window[0]) / steps)
    # what rounding in `dtype` may take for a point off the grid counts as one
    rounding = 4 * float(np.finfo(dtype).eps) * (steps + max(map(abs, window)) * steps / (window[1] - window[0]))
    sure = (np.abs(x - np.round(x)) + rounding <= np.finfo(dtype).eps ** 0.5) & (np.round(x) > 0)
    return int(np.sum(~sure))
