"""Any text data set of TensorFlow Datasets that is prepared on this machine.

For example `Part("tfds", options=options(name="wiki40b/en"))`. Reading needs no
TensorFlow and no network; preparing a standard name needs both once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scaling.errors import UserError

LICENCE = "the data set's own, see its page in the TFDS catalogue"
SOURCE = "TensorFlow Datasets, https://www.tensorflow.org/datasets/catalog"


def version(
    name: str, feature: str = "text", split: str = "train", data_dir: str = ""
) -> str:
    """Full name with version, and how much there is of it."""
    builder = _builder(name, data_dir)
    if split not in builder.info.splits:
        known = ", ".join(builder.info.splits)
        raise UserError("data.corpus split", split, f"{name} has the splits {known}")
    if feature not in builder.info.features:
        known = ", ".join(sorted(builder.info.features))
        raise UserError(
            "data.corpus feature", feature, f"{name} has the features {known}"
        )
    stored = builder.info.splits[split]
    return f"{builder.info.full_name} {stored.num_examples} {stored.num_bytes}"


def documents(
    name: str, feature: str = "text", split: str = "train", data_dir: str = ""
) -> Iterator[tuple[str, bytes]]:
    """One document an example.

    Args:
      name: of the data set, with its config and version where it has them:
        "name/config:1.0.0".
      feature: which one holds the text.
      split: of the data set; the whole of it is divided again into train and
        held-out, as every corpus is.
      data_dir: where TFDS prepared it, if not in its default folder.

    Raises:
      UserError: it is not prepared, or not as array_record; unknown feature.
    """
    builder = _builder(name, data_dir)
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError:
        raise UserError(
            "data.corpus name",
            name,
            f"is prepared in a format that TensorFlow alone reads; {_how(name)}",
        ) from None
    for row in range(len(source)):
        text = source[row][feature]
        yield str(row), text if isinstance(text, bytes) else str(text).encode()


def _builder(name: str, data_dir: str) -> Any:
    # Not tfds.builder: it looks an unprepared name up over the network, and retries
    # for minutes where there is none. This one reads folders alone.
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        builder = read_only_builder.builder_from_files(name, data_dir=data_dir or None)
    except registered.DatasetNotFoundError:
        where = data_dir or "the default folder of TFDS"
        raise UserError(
            "data.corpus name", name, f"is not prepared in {where}; {_how(name)}"
        ) from None
    return builder


def _how(name: str) -> str:
    return (
        "prepare it once, with a network: pip install 'datalaw[prepare]' and then "
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        "file_format='array_record').download_and_prepare()\" "
        "(with data_dir=... for a folder of your own)"
    )
