"""Text data sets of TensorFlow Datasets that are prepared on this machine.

For example `Part("tfds", options=options(name="wiki40b/en"))`. Reading needs no
TensorFlow and no network; preparing a standard name needs both once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from scaling.errors import UserError

LICENCE = "the data set's own, see its page in the TFDS catalogue"
SOURCE = "TensorFlow Datasets, https://www.tensorflow.org/datasets/catalog"


def version(
    name: str, feature: str = "text", split: str = "train", data_dir: str = ""
) -> str:
    """Full name with version, and how much there is of it."""
    prepared = builder(name, data_dir)
    check_split(prepared, name, split)
    _check_feature(prepared, name, feature)
    stored = prepared.info.splits[split]
    return f"{prepared.info.full_name} {stored.num_examples} {stored.num_bytes}"


def check_split(builder: Any, name: str, split: str) -> None:
    """Raises UserError for a split that a data set does not have."""
    if split not in builder.info.splits:
        known = ", ".join(builder.info.splits)
        raise UserError("data.corpus split", split, f"{name} has the splits {known}")


def _check_feature(builder: Any, name: str, feature: str) -> None:
    """Refuses a feature that is not there, or is no text."""
    features = builder.info.features
    if not hasattr(features, "keys"):
        raise UserError("data.corpus name", name, "its examples have no named features")
    texts = sorted(key for key in features if _is_text(features[key]))
    if feature not in texts:
        what = "is no text" if feature in features else "is not there"
        raise UserError(
            "data.corpus feature",
            feature,
            f"in {name} it {what}; the features with text are {', '.join(texts)}",
        )


def _is_text(feature: Any) -> bool:
    """Whether a feature holds one text an example, not a number, list or image."""
    return feature.shape == () and feature.np_dtype in (object, str, bytes)


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
      UserError: it is not prepared, or not as array_record; unknown feature, or one
        that is no text; files that are damaged or missing.
    """
    _check_feature(builder(name, data_dir), name, feature)
    for row, example in examples(name, split, data_dir, (feature,)):
        text = example[feature]
        yield str(row), text if isinstance(text, bytes) else str(text).encode()


def examples(
    name: str, split: str, data_dir: str, features: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of a prepared data set by number, each with some of its features.

    Raises:
      UserError: it is not prepared, or not as array_record; files that are damaged or
        missing.
    """
    try:
        source = builder(name, data_dir).as_data_source(split=split)
    except NotImplementedError:
        raise UserError(
            "data.corpus name",
            name,
            f"is prepared in a format that TensorFlow alone reads; {_how(name)}",
        ) from None
    with _named(name, f"split {split}"):
        count = len(source)  # opens the files
    for row in range(count):
        with _named(name, f"split {split}, example {row}"):
            example = source[row]
            if any(example[feature] is None for feature in features if feature):
                # what its reader gives where a file ends too early
                raise ValueError("it is not in the files, which are cut or damaged")
        yield row, example


@contextlib.contextmanager
def _named(name: str, place: str) -> Iterator[None]:
    """Reports damaged files in one line.

    ArrayRecord raises RuntimeError for what it finds in them; what is decoded from
    wrong or missing bytes gives ValueError or TypeError.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            "data.corpus name", name, f"{place} cannot be read: {why}"
        ) from error


def builder(name: str, data_dir: str) -> Any:
    # Not tfds.builder: it looks an unprepared name up over the network, and retries
    # for minutes where there is none. This one reads folders alone.
    from google.protobuf import json_format
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        builder = read_only_builder.builder_from_files(name, data_dir=data_dir or None)
    except registered.DatasetNotFoundError:
        where = data_dir or "the default folder of TFDS"
        raise UserError(
            "data.corpus name", name, f"is not prepared in {where}; {_how(name)}"
        ) from None
    # dataset_info.json and features.json of a preparation that was cut or edited.
    except (ValueError, KeyError, json_format.Error) as error:
        why = " ".join(str(error).split())
        raise UserError(
            "data.corpus name", name, f"its description cannot be read: {why}"
        ) from error
    return builder


def _how(name: str) -> str:
    return (
        "prepare it once, with a network: pip install 'datalaw[prepare]' and then "
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        "file_format='array_record').download_and_prepare()\" "
        "(with data_dir=... for a folder of your own)"
    )
