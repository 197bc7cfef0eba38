"""TensorBoard's event files, by TensorBoard's own reader; TensorFlow is not needed.

TensorBoard itself shows runs by this reader, so that its rules hold whatever writer
made the files (PyTorch, Keras, tensorboardX): of a run that was taken up again the
steps that were logged twice count once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError

STEP = "step"
SETTINGS = "_hparams_/session_start_info"


def read(run: Path, places: list[Path]) -> tuple[pd.DataFrame, str, dict[str, Any]]:
    """The scalars of a run by step, the column of steps, and its hyperparameters.

    Args:
      places: the folders whose events belong to the run; a tag of one within it is
        called by its folder too, as in `validation/loss`.
    """
    try:
        from tensorboard.backend.event_processing import event_accumulator
    except ModuleNotFoundError:
        expected = "TensorBoard events need: pip install 'datalaw[trackers]'"
        raise UserError("table", str(run), expected) from None
    # Of scalars all are kept; otherwise it draws 10,000.
    whole = {event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0}
    series: dict[str, dict[int, float]] = {}
    settings: dict[str, Any] = {}
    for place in places:
        within = place.relative_to(run).as_posix()
        events = event_accumulator.EventAccumulator(str(place), size_guidance=whole)
        events.Reload()
        settings |= _settings(events)
        for tag, values in _scalars(events).items():
            plain = within == "." or (tag in series and not series[tag])
            series[tag if plain else f"{within}/{tag}"] = values
    series = {tag: values for tag, values in series.items() if values}
    if not series:
        raise UserError(
            "table", str(run), "TensorBoard events with at least one scalar"
        )
    frame = pd.DataFrame(series)
    return frame.rename_axis(STEP).reset_index(), STEP, settings


def _scalars(events: Any) -> dict[str, dict[int, float]]:
    """By tag and step. TensorFlow 2 writes scalars as tensors, the others do not."""
    from tensorboard.util import tensor_util

    tags = events.Tags()
    out = {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in tags["scalars"]
    }
    for tag in tags["tensors"]:
        if tag == SETTINGS:
            continue
        values = {}
        for event in events.Tensors(tag):
            array = tensor_util.make_ndarray(event.tensor_proto)
            if array.ndim == 0 and np.issubdtype(array.dtype, np.number):
                values[event.step] = float(array)
        if values:
            out[tag] = values
    return out


def _settings(events: Any) -> dict[str, Any]:
    """Hyperparameters, where a writer gave some (`add_hparams`)."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    try:
        found = events.PluginTagToContent("hparams")
    except KeyError:  # no event of that plugin
        return {}
    out: dict[str, Any] = {}
    for content in found.values():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        for name, value in data.session_start_info.hparams.items():
            kind = value.WhichOneof("kind")
            if kind in ("number_value", "string_value", "bool_value"):
                out[name] = getattr(value, kind)
    return out
