"""Reads your own clip as a table: one row for each frame, V · C columns.

They are joint 0's x, y (and z), joint 1's x, and so on. The first row may name the columns. A
column whose name ends in _c, _conf, score, confidence, likelihood or visibility holds the scores of
a joint, wherever it stands; there is one for each joint, in the order of the joints, or none. An
empty cell is a missing value.
"""

import csv
import io
import re

import numpy as np
from jaxtyping import Float64

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_SCORE = re.compile(
    r"(?:(.*)[\s_.:-](?:c|conf)|(?:(.*)[\s_.:-])?(?:score|confidence|likelihood|visibility)\d*)",
    re.ASCII,
)


def read(
    content: bytes, layout: Layout
) -> tuple[Float64[np.ndarray, "T V C"], Float64[np.ndarray, "1 T V"] | None]:
    """The coordinates, and the scores if there are any.

    Raises:
      InputError: it is no such table; says what is wrong, with line and column.
    """
    joints = layout.num_joints
    header, table = _rows(content)
    columns = table.shape[1]
    scores, of_scores = None, [i for i, cell in header.items() if _SCORE.fullmatch(cell)]
    if of_scores:
        if len(of_scores) != joints:
            raise InputError(f"has {len(of_scores)} columns of scores, but {joints} joints")
        scores = table[None, :, of_scores]
        table = np.delete(table, of_scores, axis=1)
        _check_order({i: _scored(header.pop(i)) for i in of_scores}, list(layout.joints))
    if table.shape[1] not in (2 * joints, 3 * joints):
        raise InputError(
            f"has {columns} columns: {joints} joints need {2 * joints} or {3 * joints}"
            + (f", and {joints} of scores, which a header names" if not of_scores else "")
        )
    for axes in ("xy", "xyz"):
        _check_order(header, [f"{joint}_{axis}" for joint in layout.joints for axis in axes])
    return table.reshape(len(table), joints, table.shape[1] // joints), scores


def _rows(content: bytes) -> tuple[dict[int, str], Float64[np.ndarray, "T columns"]]:
    """The names of the columns in lower case by their places, if there are any; the numbers."""
    header, columns, rows = {}, 0, []
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        for cells in lines:
            if len(cells) < 2 and not any(cell.strip() for cell in cells):
                continue
            first, columns = not columns, columns or len(cells)
            if len(cells) != columns:
                raise InputError(
                    f"line {lines.line_num} has {len(cells)} columns, the first has {columns}"
                )
            numbers = [_number(cell) for cell in cells]
            named = first and None in numbers and all(n is None or np.isnan(n) for n in numbers)
            if named:
                header = {i: cell.strip().lower() for i, cell in enumerate(cells)}
                continue
            if None in numbers:
                at = numbers.index(None)
                raise InputError(
                    f"line {lines.line_num}, column {at + 1}: {cells[at][:40]!r} is no number"
                )
            rows.append(np.array(numbers))
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"is no table in UTF-8 ({error})") from error
    return header, np.array(rows).reshape(len(rows), columns)


def _number(cell: str) -> float | None:
    """The number, NaN for an empty cell, None for a word."""
    try:
        return float(cell) if cell.strip() else np.nan
    except ValueError:
        return None


def _scored(name: str) -> str:
    """The joint that a column of scores names, if it does."""
    match = _SCORE.fullmatch(name)
    return (match[1] or match[2] or "") if match else ""


def _check_order(columns: dict[int, str], expected: list[str]) -> None:
    """Refuses a header that names the joints in another order; accepts any other header."""
    expected = [name.lower() for name in expected]
    if sorted(columns.values()) != sorted(expected):
        return
    for (column, name), right in zip(columns.items(), expected):
        if name != right:
            raise InputError(f"column {column + 1} is {name!r} where layout.json has {right!r}")
