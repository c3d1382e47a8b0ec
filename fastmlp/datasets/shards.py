"""Files of a table: shards in a folder, and the files of their targets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .._common.errors import DataError, DataWarning, warn_user
from ..io.array_files import ARRAY_SUFFIXES
from .source import TABLE_SUFFIXES, target_file

__all__ = ["files_of", "labels_of_folder", "require_shards", "source_files"]


def source_files(path: Path, target: str | int | None = None) -> list[Path]:
    """Return the files of a table, and those of its targets: what decides whether it has changed.

    Raises
    ------
    DataError
        If there is no table, or a folder has tables of several kinds.
    """
    files = files_of(path, target)
    shared = labels_of_folder(path, target)
    beside = [target_file(file, target) for file in files if shared is None and file.suffix.lower() == ".npy"]
    return [*files, *dict.fromkeys(one for one in (shared, *beside) if one is not None)]


def labels_of_folder(path: Path, target: str | int | None) -> Path | None:
    """Return the file with the targets of all tables of a folder, if ``target`` names one."""
    if isinstance(target, str) and target.lower().endswith(".npy") and path.is_dir():
        return target_file(path / "any", target)
    return None


def files_of(path: Path, target: str | int | None = None) -> list[Path]:
    """Return the tables of a folder, sorted by name, or the file itself.

    Names that begin with a dot or an underscore are those of other programs' notes.
    """
    if path.is_file():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{path} is not a table; expected a name that ends in {', '.join(TABLE_SUFFIXES)}.")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; expected a table, or a folder of tables.")
    labels = labels_of_folder(path, target)
    visible = [file for file in path.iterdir() if not file.name.startswith((".", "_")) and file.is_file()]
    found = sorted(file for file in visible if file.suffix.lower() in TABLE_SUFFIXES)
    found = [
        file for file in found if not _is_target(file, found) and (labels is None or file.resolve() != labels.resolve())
    ]
    kinds = sorted({file.suffix.lower() for file in found})
    if len(kinds) != 1:
        seen = f"tables of several kinds ({', '.join(kinds)})" if kinds else "no table"
        raise DataError(f"{path} has {seen}; expected tables of one kind: {', '.join(TABLE_SUFFIXES)}.")
    return found


def _is_target(file: Path, others: Sequence[Path]) -> bool:
    """Whether a file has the targets of another one: part_y.npy beside part_X.npy."""
    return (
        file.suffix.lower() in ARRAY_SUFFIXES
        and file.stem.endswith("_y")
        and file.with_name(f"{file.stem.removesuffix('_y')}_X.npy") in others
    )


def require_shards(files: Sequence[Path]) -> None:
    """Check the numbers in the names of a folder's tables.

    Warns
    -----
    DataWarning
        If the names differ by a number that skips values.

    Raises
    ------
    DataError
        If a file such as part-00001-of-00004 is missing.
    """
    for file in files:
        counted = re.search(r"(\d+)-of-(\d+)", file.stem)
        if counted is not None:
            before, after = file.name[: counted.start()], file.name[counted.end() :]
            pattern = re.compile(f"{re.escape(before)}(\\d+)-of-{counted[2]}{re.escape(after)}")
            seen = {int(found[1]) for other in files if (found := pattern.fullmatch(other.name))}
            count = int(counted[2])
            first = 0 if 0 in seen else 1
            missing = sorted(set(range(first, first + count)) - seen)
            if missing:
                name = f"{before}{missing[0]:0{len(counted[1])}d}-of-{counted[2]}{after}"
                raise DataError(f"{file.with_name(name)} is missing; expected {count} files, as their names say.")
    numbers = _numbers(files)
    missing = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers)) if numbers else []
    if missing:
        warn_user(
            f"{files[0].parent} has files with the numbers {min(numbers)} to {max(numbers)}, but none with "
            f"{', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}; a file may be missing.",
            DataWarning,
        )


def _numbers(files: Sequence[Path]) -> list[int]:
    """Return the numbers by which the names of files differ, if they differ by one number only."""
    parts = [re.split(r"(\d+)", file.stem) for file in files]
    if len(files) < 2 or len({len(part) for part in parts}) > 1:
        return []
    other = [place for place in range(len(parts[0])) if len({part[place] for part in parts}) > 1]
    return [int(part[other[0]]) for part in parts] if len(other) == 1 and other[0] % 2 else []
