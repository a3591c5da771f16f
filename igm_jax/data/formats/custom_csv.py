"""A clip of one's own as a table: a row a frame, V · C columns, joint 0's x, y (and z), joint 1's x, …

The first row may name the columns. A column whose name ends in score, c, conf, confidence,
likelihood or visibility holds the scores of a joint, wherever it stands; there is one for each
joint, in the order of the joints, or none. An empty cell is a missing value.
"""

import csv
import io
import re

import numpy as np
from jaxtyping import Float64

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_SCORE = re.compile(
    r"(?:(.*)[\s_.:-])?(?:score|c|conf|confidence|likelihood|visibility)[\s_.:-]?\d*", re.ASCII
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
    of_scores = [i for i, cell in enumerate(header) if _SCORE.fullmatch(cell)]
    scores = None
    if of_scores:
        if len(of_scores) != joints:
            raise InputError(
                f"has {len(of_scores)} columns of scores: {joints} joints need {joints}"
            )
        _check_scores([header[i] for i in of_scores], layout)
        scores = table[None, :, of_scores]
        table = np.delete(table, of_scores, axis=1)
        header = [cell for i, cell in enumerate(header) if i not in of_scores]
    if table.shape[1] not in (2 * joints, 3 * joints):
        raise InputError(
            f"has {columns} columns: {joints} joints need {2 * joints} or {3 * joints}"
            + (f", and {joints} of scores, which a header names" if not of_scores else "")
        )
    _check_header(header, layout)
    return table.reshape(len(table), joints, table.shape[1] // joints), scores


def _rows(content: bytes) -> tuple[list[str], Float64[np.ndarray, "T columns"]]:
    """The names of the columns in lower case, [] if there are none, and the numbers."""
    header, columns, rows = [], 0, []
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
            if first and any(map(str.strip, cells)) and not any(map(_is_finite, numbers)):
                if None in numbers:
                    header = [cell.strip().lower() for cell in cells]
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


def _is_finite(number: float | None) -> bool:
    return number is not None and bool(np.isfinite(number))


def _check_scores(names: list[str], layout: Layout) -> None:
    """Raises if the scores name the joints in an order that is not theirs."""
    found = [_SCORE.fullmatch(name)[1] for name in names]
    _check_order(found, [joint.lower() for joint in layout.joints])


def _check_header(found: list[str], layout: Layout) -> None:
    """Any header will do, but for one that names the joints in an order that is not theirs."""
    for axes in ("xy", "xyz"):
        _check_order(found, [f"{joint}_{axis}".lower() for joint in layout.joints for axis in axes])


def _check_order(found: list[str | None], expected: list[str]) -> None:
    if set(found) == set(expected) and found != expected:
        at = next(i for i, pair in enumerate(zip(found, expected)) if pair[0] != pair[1])
        raise InputError(f"column {at + 1} is {found[at]!r} where layout.json has {expected[at]!r}")
