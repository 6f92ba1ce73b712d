"""Turn a dataset's folder into samples: a picture, its captions, the split it belongs to.

A new kind of dataset is a module with ``read``, ``check`` and ``prepare``, and a line in
``DATASETS``.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from clipsr_cli.datasets import celeba, coco, cub, folder, referring
from clipsr_cli.datasets.folds import CATEGORIES, fold
from clipsr_cli.datasets.sample import Box, Dataset, Options, Part, Sample
from clipsr_cli.errors import InputError, UnknownNameError, reason

__all__ = [
    "DATASETS",
    "SPLIT_BY_SHARE",
    "Box",
    "Dataset",
    "Options",
    "Part",
    "Sample",
    "find",
    "read",
]

Result = TypeVar("Result")
DEFAULTS = Options()
# Those for which ``prepare`` fixes a split.
SPLIT_BY_SHARE = ("folder", "celeba")


def find(name: str) -> Dataset:
    """The dataset of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in DATASETS:
        raise UnknownNameError("dataset", name, DATASETS)
    return DATASETS[name]


def read(name: str, root: Path, options: Options = DEFAULTS) -> list[Sample]:
    """The samples of a dataset.

    Args:
        name: a name in ``DATASETS``.
        root: the folder it lies in.
        options: how to read it.

    Raises:
        UnknownNameError: there is no such dataset.
        InputError: it is not all there, or malformed.
    """
    return find(name).read(root, options)


def _guarded(name: str, dataset: Dataset) -> Dataset:
    """A dataset whose functions refuse what all of them must, and say what to do next."""

    def guard(act: Callable[[Path, Options], Result]) -> Callable[[Path, Options], Result]:
        def guarded(root: Path, options: Options) -> Result:
            _refuse_group(name, options)
            try:
                return _run(act, root, options)
            except InputError as error:
                hint = f"See what is missing: clipsr data check {name} --data-root {root}"
                raise InputError(error.message, hint=error.hint or hint) from error

        return guarded

    def check(root: Path, options: Options) -> list[Part]:
        _refuse_group(name, options)
        try:
            return _run(dataset.check, root, options)
        except InputError as error:
            advice = f"Get the dataset: {dataset.source}"
            return [Part(what="folder", found=error.message, ok=False, needed=True, advice=advice)]

    return Dataset(
        read=guard(dataset.read),
        check=check,
        prepare=guard(dataset.prepare),
        about=dataset.about,
        source=dataset.source,
    )


def _refuse_group(name: str, options: Options) -> None:
    if options.group is None:
        return
    if name not in CATEGORIES:
        known = " and ".join(CATEGORIES)
        raise InputError(f"{name} has no groups.", hint=f"Only {known} have.")
    fold(name, options.group)


def _run(act: Callable[[Path, Options], Result], root: Path, options: Options) -> Result:
    """What ``act`` gives for a folder; what the system does not let it read is an InputError."""
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the folder {root}: {reason(error)}.") from error
    try:
        return act(root, options)
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {reason(error)}.") from error


DATASETS: dict[str, Dataset] = {
    name: _guarded(name, dataset)
    for name, dataset in {
        "folder": folder.DATASET,
        "cub": cub.DATASET,
        "celeba": celeba.DATASET,
        "coco": coco.DATASET,
        "ref-ytvos": referring.YTVOS,
        "ref-sailvos": referring.SAILVOS,
    }.items()
}
