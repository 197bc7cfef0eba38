"""A grid of pictures: a row a run, a column a noise, under each the nearest read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import count
from analysis.laws import Array
from analysis.pictures.groups import Pictured, half_of
from analysis.pictures.load import LINEAR
from analysis.report.style import Nothing, resize
from analysis.results import Analysis
from analysis.schema import Column, declare

# Noises that are shown at most, groups of the most and of the least data, and pixels of
# a picture's side.
COLUMNS, ROWS, LEAST, SIDE = 10, 6, 3, 32
SAMPLE, NEAREST = "sample", "nearest training picture"
# The columns of a frame that hold a picture; see `levels_of`.
PIXELS = (
    Column("height", "of the picture", "pixels"),
    Column("width", "of the picture", "pixels"),
    Column("channels", "of a pixel"),
    Column("pixels", "its levels of 256 in base64, row by row"),
)
GRID = declare(
    "picture_grid",
    "Samples of the first noises, and the nearest training picture of each.",
    Column("samples", "the set of noises"),
    Column("what", "sample, nearest training picture, or linear sample"),
    "run_id family corpus params tokens unique_tokens",
    Column("column", "number of the noise"),
    *PIXELS,
)


def grid(asked: Pictured) -> list[dict[str, Any]]:
    """Rows of the frame: the linear sample, and of each chosen run both pictures."""
    chosen = list(_chosen(asked))
    out = []
    for k, row in enumerate(chosen):
        run_id, fraction = asked.points(row)[0]
        names = ("family", "corpus", "params", "tokens", "unique_tokens")
        head = {"samples": asked.pictures.name, "run_id": run_id}
        head |= {name: row[name] for name in names}
        made = asked.pictures.read(run_id, "pictures", fraction)
        near = asked.pictures.get(run_id, "nearest", fraction)
        linear = asked.pictures.get(run_id, LINEAR)
        if k == 0 and linear is not None:
            out += list(_shown(head | {"what": f"{LINEAR} sample"}, linear))
        out += list(_shown(head | {"what": SAMPLE}, made))
        if near is not None:
            out += list(_shown(head | {"what": NEAREST}, near / 255.0))
    return out


def _chosen(asked: Pictured) -> Iterator[Any]:
    """Groups at the place that is reported, and there those of the least data.

    Every family has a row before any has a second one.
    """
    ends = asked.ends
    if ends.empty:
        return
    here = ends[[asked.reported(row) for _, row in ends.iterrows()]]
    first = here.iloc[0]
    same = (ends.level == first.level) & (ends.budget == first.budget)
    least = ends[same & (ends["unique"] < first["unique"])]
    least = least[least["unique"] == least["unique"].min()]
    for some, most in ((here, ROWS), (least, LEAST)):
        rows = some.sort_values(["family", "corpus"])
        turn = rows.groupby("family").cumcount().sort_values(kind="stable")
        for _, row in rows[rows.index.isin(turn.index[:most])].iterrows():
            yield row


def _shown(head: dict[str, Any], pictures: Array) -> Iterator[dict[str, Any]]:
    for column, picture in enumerate(pictures[:COLUMNS]):
        yield head | {"column": column, **levels_of(picture)}


def levels_of(picture: Array) -> dict[str, Any]:
    """The values of PIXELS, of a picture in pixels over 255."""
    shown = levels(picture)
    height, width, channels = shown.shape
    shape = {"height": height, "width": width, "channels": channels}
    return shape | {"pixels": base64.b64encode(shown.tobytes()).decode()}


def levels(picture: Array) -> Array:
    """uint8 [height, width, channels]: a picture in levels of 256, no larger than SIDE.

    Args:
      picture: in pixels over 255.
    """
    small = _smaller(picture)
    return np.rint(255.0 * np.clip(small, 0.0, 1.0)).astype(np.uint8)


def _smaller(picture: Array) -> Array:
    """Means of blocks, so that no side has more than about SIDE pixels."""
    block = max(1, -(-max(picture.shape[:2]) // SIDE))
    height, width = (n - n % block for n in picture.shape[:2])
    cut = picture[:height, :width]
    parts = cut.reshape(height // block, block, width // block, block, -1)
    return np.asarray(parts.mean(axis=(1, 3)))


# --- Figure ------------------------------------------------------------------------


def draw_grid(figure: Figure, analysis: Analysis, target: str) -> None:
    """All pictures of the first set as one image, with the runs' names beside it."""
    frame = analysis.picture_grid
    if frame.empty:
        raise Nothing
    _draw(figure, frame[frame.samples == frame.samples.iloc[0]])


def draw_larger(figure: Figure, analysis: Analysis, target: str) -> None:
    """The same of the set with the largest pictures, where the first has smaller."""
    frame = analysis.picture_grid
    if frame.empty or frame.height.max() == frame.height.iloc[0]:
        raise Nothing
    largest = frame.samples.iloc[frame.height.to_numpy().argmax()]
    _draw(figure, frame[frame.samples == largest])


def _draw(figure: Figure, frame: pd.DataFrame) -> None:
    lines = list(frame.groupby(["run_id", "what"], sort=False))
    linear = [one for one in lines if one[0][1].startswith(LINEAR)]
    lines = linear + [one for one in lines if not one[0][1].startswith(LINEAR)]
    gaps = [1 if what == NEAREST else 3 for (_, what), _ in lines]
    named = [(_name(some.iloc[0]), some) for _, some in lines]
    draw_strips(
        figure,
        [(name, gap, some) for (name, some), gap in zip(named, gaps, strict=True)],
    )


def draw_rows(
    figure: Figure, frame: pd.DataFrame, name: Callable[[Any], str]
) -> pd.DataFrame:
    """The first set of a frame of pictures, which is returned: a row a run and kind.

    Args:
      frame: with samples, what, run_id and PIXELS.
      name: of a row of the figure, by its first picture.
    """
    if frame.empty:
        raise Nothing
    frame = frame[frame.samples == frame.samples.iloc[0]]
    lines = [some for _, some in frame.groupby(["what", "run_id"], sort=False)]
    draw_strips(figure, [(name(some.iloc[0]), 3, some) for some in lines])
    return frame


def draw_strips(figure: Figure, lines: Sequence[tuple[str, int, pd.DataFrame]]) -> None:
    """Rows of pictures.

    Args:
      lines: of each its name, the gap above it in pixels, and its pictures, as
        `levels_of` gives them.
    """
    strips, names, places, top = [], [], [], 0.0
    for name, gap, some in lines:
        strip = np.concatenate([_padded(_pixels(row)) for row in some.itertuples()], 1)
        blank = np.full((gap, *strip.shape[1:]), 1.0)
        strips += [blank, strip]
        places.append(top + gap + strip.shape[0] / 2 - 0.5)
        names.append(name)
        top += gap + strip.shape[0]
    image = np.concatenate(strips, axis=0)
    height, width = image.shape[:2]
    wide = 4.9  # inches, which leaves room for names
    resize(figure, 0.4 + wide * height / width)
    axes = figure.subplots()
    if image.shape[2] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(image[..., :3], interpolation="nearest")
    axes.set_anchor("E")
    axes.set_yticks(places, names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _pixels(row: Any) -> Array:
    levels = np.frombuffer(base64.b64decode(row.pixels), np.uint8)
    return levels.reshape(int(row.height), int(row.width), int(row.channels)) / 255.0


def _padded(picture: Array) -> Array:
    return np.pad(picture, ((0, 0), (0, 1), (0, 0)), constant_values=1.0)


def _name(row: Any) -> str:
    if row.what == NEAREST:
        return "nearest read"
    if row.what != SAMPLE:
        return "best linear"
    half = half_of(row.corpus)
    of = f", half {half}" if half else ""
    return f"{row.family}{of}, {count(row.unique_tokens)} pictures"
