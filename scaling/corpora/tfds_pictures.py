"""Picture data sets of TensorFlow Datasets that are prepared on this machine.

For example `Part("tfds_pictures", options=options(name="cifar10"))`. Reading needs no
TensorFlow and no network; preparing a standard name needs both once. Every picture is a
group of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.corpora import tfds
from scaling.corpora._pictures import Picture
from scaling.errors import UserError

LICENCE = tfds.LICENCE
SOURCE = tfds.SOURCE


def version(
    name: str,
    feature: str = "image",
    label: str = "",
    split: str = "train",
    data_dir: str = "",
) -> str:
    """Full name with version, and how much there is of it."""
    builder = tfds.builder(name, data_dir)
    tfds.check_split(builder, name, split)
    features = builder.info.features
    shapes = {key: features[key].shape for key in features}
    pictures = sorted(k for k, s in shapes.items() if len(s) == 3)
    numbers = sorted(
        key
        for key, shape in shapes.items()
        if shape == () and np.issubdtype(features[key].np_dtype, np.integer)
    )
    if feature not in pictures:
        known = ", ".join(pictures) or "none"
        raise UserError(
            "data.corpus feature", feature, f"{name} has pictures in: {known}"
        )
    if label and label not in numbers:
        known = ", ".join(numbers) or "none"
        raise UserError("data.corpus label", label, f"{name} has classes in: {known}")
    stored = builder.info.splits[split]
    return f"{builder.info.full_name} {stored.num_examples} {stored.num_bytes}"


def pictures(
    name: str,
    feature: str = "image",
    label: str = "",
    split: str = "train",
    data_dir: str = "",
) -> Iterator[Picture]:
    """One picture an example.

    Args:
      name: of the data set, with its config and version where it has them.
      feature: which one holds the picture.
      label: which one holds the class; "" where models do not read it.
      split: of the data set; it is divided again into train and held-out.
      data_dir: where TFDS prepared it, if not in its default folder.
    """
    for row, example in tfds.examples(name, split, data_dir, (feature, label)):
        pixels = np.asarray(example[feature])
        kind: Any = int(example[label]) if label else -1
        yield Picture(str(row), pixels, str(row), kind)
