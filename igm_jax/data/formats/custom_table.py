"""Reads labels.csv of your own skeletons: one row for each clip, columns in any order.

    clip     its path below the folder, with or without the suffix; only this column must be there
    label    a class name, or a class number ≥ 0; empty is unlabelled
    subject, camera, setup
             numbers from 1, or names, which are then numbered from 1 in sorted order; empty is
             unknown
    split    test, or train; empty is train, and so is everything without this column

The classes are the labels that occur, names in sorted and numbers in numeric order; or the lines of
classes.txt, and then a label is one of them, or the number of its line, counted from 0. A table in
which a number stands as 3.0, as spreadsheets and data frames write it beside empty cells, is read
like one in which it stands as 3.
"""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from igm_jax.data.store import BadClip
from igm_jax.errors import InputError

_COLUMNS = ("clip", "label", "subject", "camera", "setup", "split")
_SPLITS = {"train": 1, "test": 2, "": 1}
_NUMBER = re.compile(r"(-?\d{1,9})(\.0*)?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Row:
    """The row of a clip; fields as in `Clip`."""

    label: int = -1
    subject: int = 0
    camera: int = 0
    setup: int = 0
    split: int = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """The contents of labels.csv.

    Attributes:
      rows: file → its row, or the fault in that row.
      without_file: rows without a file.
      class_names: name of each label.
    """

    rows: dict[str, Row | BadClip]
    without_file: list[BadClip]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Line:
    """A row of the file: one cell for each of _COLUMNS, "" if the column is missing."""

    number: int
    cells: dict[str, str]
    problem: str


def read_table(file: pathlib.Path, classes_file: pathlib.Path, clips: Sequence[str]) -> Table:
    """Reads labels.csv, and classes.txt where there is one.

    Args:
      file: labels.csv; without it every clip has the row of an unlabelled one.
      classes_file: classes.txt.
      clips: the files there are, as paths below the folder. A row can mean no other, whatever
        path it gives: nothing is opened by it.

    Raises:
      InputError: a file that is no table or has other columns, or a column that cannot be
        understood; names the line, its value and what to write.
    """
    fixed = _class_names(classes_file) if classes_file.is_file() else None
    if not file.is_file():
        return Table(dict.fromkeys(clips, Row()), [], fixed or ())
    lines = _lines(file)
    names = fixed if fixed is not None else _labels_that_occur(file, lines)
    numbering = {c: _numbering(file, lines, c) for c in ("subject", "camera", "setup")}
    meanings = _meanings(clips)
    rows: dict[str, Row | BadClip] = {}
    without_file: list[BadClip] = []
    first_line: dict[str, int] = {}
    for line in lines:
        where, cell = f"{file.name} line {line.number}", line.cells["clip"]
        clip, problem = _find(cell, meanings)
        if clip is None:
            without_file.append(BadClip(cell[:200] or where, f"{where}: {problem}"))
        elif clip in rows:
            rows[clip] = BadClip(clip, f"{where}: is in line {first_line[clip]} too: drop one")
        else:
            first_line[clip] = line.number
            row = line.problem or _row(line, names, numbering)
            rows[clip] = BadClip(clip, f"{where}: {row}") if isinstance(row, str) else row
    return Table(rows, without_file, names)


def _lines(file: pathlib.Path) -> list[_Line]:
    """Rows below the header; a row with another number of cells keeps only its clip."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            header, *table = [
                (reader.line_num, [cell.strip() for cell in cells])
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{file}: is no table in UTF-8 ({error}): save it as CSV") from error
    except ValueError:
        raise InputError(f"{file}: is empty: give it a header, or remove it") from None
    columns = [cell.lower() for cell in header[1]]
    for column in columns:
        if column not in _COLUMNS or columns.count(column) > 1:
            raise InputError(
                f"{file}: column {column!r} is unknown or there twice: the header is clip and any "
                f"of {', '.join(_COLUMNS[1:])}, with commas between"
            )
    if "clip" not in columns:
        raise InputError(f"{file}: has no column clip: the header is {','.join(_COLUMNS)}")
    lines = []
    for number, cells in table:
        known, problem = dict(zip(columns, cells)), ""
        if len(cells) != len(columns):
            known = {"clip": known.get("clip", "")}
            problem = f"has {len(cells)} cells, the header {len(columns)}"
        lines.append(_Line(number, dict.fromkeys(_COLUMNS, "") | known, problem))
    return lines


def _meanings(clips: Sequence[str]) -> dict[str, list[str]]:
    """Maps names that a row may use to the files that they may mean."""
    meanings: dict[str, list[str]] = {}
    for clip in clips:
        meanings.setdefault(clip.rpartition(".")[0], []).append(clip)
    return meanings | {clip: [clip] for clip in clips}


def _find(cell: str, meanings: dict[str, list[str]]) -> tuple[str | None, str]:
    """Finds the file of a cell, or the reason why there is none."""
    path = pathlib.PurePosixPath(cell.replace("\\", "/"))
    if not cell:
        return None, "has no clip"
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", cell):
        return None, "the clip is not below the folder of labels.csv: give its path from there"
    found = meanings.get(path.as_posix(), [])
    if len(found) > 1:
        return None, f"may mean {' or '.join(found)}: write the suffix"
    return (found[0], "") if found else (None, "there is no such clip")


def _row(line: _Line, names: tuple[str, ...], numbering: dict[str, dict[str, int]]) -> Row | str:
    """Parses a row; returns it, or its fault."""
    label, split = line.cells["label"], line.cells["split"].lower()
    number = _whole(label) if _is_whole(label) else -1
    if not label:
        index = -1
    elif label in names:
        index = names.index(label)
    elif str(number) in names:  # 3.0 or 03 means class 3
        index = names.index(str(number))
    elif 0 <= number < len(names) and not any(map(_is_whole, names)):
        index = number
    else:
        return f"label {label!r} is none of the {len(names)} classes"
    if split not in _SPLITS:
        return f"split {line.cells['split']!r} is neither train nor test"
    who = {column: known[line.cells[column]] for column, known in numbering.items()}
    return Row(label=index, split=_SPLITS[split], **who)


def _class_names(file: pathlib.Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeError as error:
        raise InputError(f"{file}: is no text in UTF-8 ({error}): save it as such") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    for i, name in enumerate(names, 1):
        if not name or name in names[: i - 1]:
            raise InputError(f"{file}: line {i} ({name!r}) is empty or there before: correct it")
    return names


def _labels_that_occur(file: pathlib.Path, lines: list[_Line]) -> tuple[str, ...]:
    values = _first_lines(lines, "label")
    for value, number in values.items():
        if _is_whole(value) and _whole(value) < 0:
            raise InputError(
                f"{file}: line {number}: label {value!r} is negative: leave the cell empty for a "
                "clip without a label"
            )
    if all(map(_is_whole, values)):
        return tuple(str(number) for number in sorted(set(map(_whole, values))))
    return tuple(sorted(values))


def _numbering(file: pathlib.Path, lines: list[_Line], column: str) -> dict[str, int]:
    """Maps cells to numbers from 1; an empty cell (unknown) is 0."""
    values = _first_lines(lines, column)
    names = [value for value in values if not _is_whole(value)]
    if 0 < len(names) < len(values):  # as names, the numbers would be numbered again
        raise InputError(
            f"{file}: line {values[names[0]]}: {column} {names[0]!r} is no number, and others of "
            "this column are: correct it, leave it empty where it is unknown, or give names to all"
        )
    if names:
        return {"": 0} | {value: number for number, value in enumerate(sorted(values), 1)}
    for value, number in values.items():
        if _whole(value) < 1:
            raise InputError(
                f"{file}: line {number}: {column} {value!r}: count from 1, or leave the cell empty "
                "where it is unknown"
            )
    return {"": 0} | {value: _whole(value) for value in values}


def _first_lines(lines: list[_Line], column: str) -> dict[str, int]:
    """Values of a column that are not empty → the first line that has each."""
    return {line.cells[column]: line.number for line in reversed(lines) if line.cells[column]}


def _is_whole(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _whole(cell: str) -> int:
    match = _NUMBER.fullmatch(cell)
    assert match is not None  # `_is_whole` says so
    return int(match[1])
