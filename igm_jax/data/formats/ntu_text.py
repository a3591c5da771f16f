"""Reads and writes the text of a `.skeleton` file of NTU RGB+D, fast and strictly.

    number of frames
    for each frame: number of bodies (0 is allowed), and for each body
        ID clippedEdges handLeftConfidence handLeftState handRightConfidence handRightState
            isRestricted leanX leanY trackingState                                    (one line)
        25
        x y z depthX depthY colorX colorY orientationW X Y Z trackingState            (25 lines)

Positions are in metres in camera space, y up. Only the ID, x, y, z and the joint's tracking state
are read: pixels and orientations are not, and genuine files have infinite ones.

A clip has some thirty thousand fields, so a reader that turns each into a Python object is slow.
Here NumPy finds the fields of the whole file at once and converts those that are needed, and Python
looks once at each body.

References:
  Shahroudy et al., NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis, CVPR 2016.
"""

import dataclasses
import re

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from igm_jax.errors import InputError

NUM_JOINTS = 25
NOT_TRACKED, INFERRED, TRACKED = 0, 1, 2

_BODY = bytes([10, 1] + [12] * NUM_JOINTS)  # fields in the lines of a body
_COUNT_WORDS = f"the number of joints, {NUM_JOINTS}"
_MAX_DIGITS = 18  # of a count or ID; fits int64
_FIRST_ID = 1 << 56  # the sensor's IDs are of this size
_WINDOW = 16  # bytes, of which a number that is converted in bulk fills 15 at most
_PLACES = np.arange(_WINDOW - 1, -1, -1, dtype=np.uint8)[:, None]
_TENS = 10.0 ** np.arange(_WINDOW)
_BLOCK = 64  # bodies converted together: more memory at once would be paged in for every file
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A recording of the sensor: one row for each body in each frame that shows it.

    Rows of one body are in the order of time. Bodies come in the order of their first rows.

    Attributes:
      num_frames: frames of the recording, also those that show nobody.
      frame: the frame of each row, counted from 0.
      body: the ID of the body of each row.
      joints: metres in camera space, y up.
      tracking: NOT_TRACKED, INFERRED or TRACKED.
    """

    num_frames: int
    frame: Int[np.ndarray, " rows"]
    body: Int[np.ndarray, " rows"]
    joints: Float32[np.ndarray, "rows 25 3"]
    tracking: UInt8[np.ndarray, "rows 25"]

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: Shaped[np.ndarray, " _"]) -> "Recording":
        """The rows that an index array or a mask selects; the number of frames stays."""
        columns = (self.frame, self.body, self.joints, self.tracking)
        return Recording(self.num_frames, *(column[rows] for column in columns))

    @property
    def bodies(self) -> list[Int[np.ndarray, " _"]]:
        """The row indices of each body."""
        ids, first, inverse = np.unique(self.body, return_index=True, return_inverse=True)
        by_id = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        return [by_id[i] for i in np.argsort(first)] if len(ids) else []


def record(
    frames: Float[np.ndarray, "M T 25 3"], seen: Bool[np.ndarray, "M T"] | None = None
) -> Recording:
    """The recording of M bodies, each with an ID of its own, in the frames where it is seen."""
    seen = np.ones(frames.shape[:2], bool) if seen is None else seen
    frame, body = np.nonzero(seen.T)
    joints = frames[body, frame].astype(np.float32)
    tracking = np.full(joints.shape[:2], TRACKED, np.uint8)
    return Recording(frames.shape[1], frame, _FIRST_ID + body, joints, tracking)


def format_recording(recording: Recording, *, digits: int = 7, crlf: bool = False) -> bytes:
    """The text of a recording, which `parse` reads back up to the digits written.

    Fields that a recording does not hold are plausible (pixels, by pinhole cameras of about the
    sensor's size) or zero.

    Args:
      recording: rows of one frame are written in their order.
      digits: significant digits of each number; the sensor's files have 7, and 9 keep a float32.
      crlf: end lines as Windows does; both kinds of files are about.
    """
    joint = " ".join([f"%.{digits}g"] * 7 + ["0 0 0 0", "%d"])
    x, y, z = np.moveaxis(recording.joints.astype(np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # the sensor writes infinity too
        across, up = x / z, y / z
    fields = np.stack(
        [
            x,
            y,
            z,
            256 + 365 * across,
            212 - 365 * up,
            960 + 1060 * across,
            540 - 1060 * up,
            recording.tracking,
        ],
        axis=-1,
    )
    lines = [str(recording.num_frames)]
    for frame in range(recording.num_frames):
        rows = np.flatnonzero(recording.frame == frame)
        lines.append(str(len(rows)))
        for row in rows:
            lines += [f"{recording.body[row]} 0 0 0 0 0 0 0 0 2", str(NUM_JOINTS)]
            lines += [joint % tuple(values) for values in fields[row].tolist()]
    return ("\r\n" if crlf else "\n").join([*lines, ""]).encode()


def parse(text: bytes) -> Recording:
    """Reads the text of a `.skeleton` file.

    Args:
      text: lines may end in LF or CRLF.

    Returns:
      The recording, its rows in the order of the text.

    Raises:
      InputError: the text is cut short or too long, a count is wrong, or a number is none
        or not finite; says in which line, and what was expected there.
    """
    lines = _Lines(text)
    num_frames = lines.number(0, "the number of frames")
    line, heads, frame, body = 1, [], [], []
    for t in range(num_frames):
        num_bodies = lines.number(line, "the number of bodies in a frame")
        line += 1
        for _ in range(num_bodies):
            heads.append(line)
            frame.append(t)
            body.append(lines.body(line))
            line += len(_BODY)
        if num_bodies > 1 and len(set(body[-num_bodies:])) < num_bodies:
            raise lines.expected(line - num_bodies * len(_BODY), f"{num_bodies} different body IDs")
    if not lines.over(line):
        raise lines.expected(line, f"the end of the file after {num_frames} frames")
    joint_lines = np.array(heads, int).reshape(-1, 1) + np.arange(2, len(_BODY))
    return Recording(
        num_frames,
        np.array(frame, int),
        np.array(body, int),
        lines.positions(joint_lines),
        lines.tracking(joint_lines),
    )


class _Lines:
    """The lines of a text, counted from 0, with the places of their fields."""

    def __init__(self, text: bytes):
        self.text = _single_spaced(text)
        self.raw = np.frombuffer(self.text, np.uint8)
        # Field i ends before byte ends[i], and line j begins with field first[j].
        self.ends = np.flatnonzero(self.raw <= ord(" "))
        last = np.flatnonzero(self.raw[self.ends] == ord("\n"))
        self.first = np.concatenate([[0], last[:-1] + 1])
        self.starts = np.concatenate([[0], self.ends[last] + 1]).data  # gives Python's integers
        self.widths = np.minimum(last + 1 - self.first, 255).astype(np.uint8).tobytes()

    def over(self, line: int) -> bool:
        """Whether all lines from this one on are empty."""
        return line >= len(self.widths) or not self.text[self.starts[line] :].strip()

    def expected(self, line: int, what: str) -> InputError:
        """Error for a line that does not hold `what`."""
        found = "the end of the file"
        if not self.over(line):
            words = self.text[self.starts[line] : self.starts[line + 1] - 1].decode("latin-1")
            found = repr(words if len(words) <= 60 else words[:57] + "...")
        return InputError(f"line {line + 1}: expected {what}, found {found}")

    def number(self, line: int, what: str) -> int:
        """The count that is alone in this line."""
        if line < len(self.widths):
            field = self.text[self.starts[line] : self.starts[line + 1] - 1]
            if field.isdigit() and len(field) <= _MAX_DIGITS:
                return int(field)
        raise self.expected(line, what)

    def body(self, head: int) -> int:
        """Checks the lines of a body that begin here; returns its ID."""
        if self.widths[head : head + len(_BODY)] != _BODY:
            raise self._misshapen(head)
        start, end, after = self.starts[head : head + 3]
        if self.text[end:after] != b"25\n":
            raise self.expected(head + 1, _COUNT_WORDS)
        field = self.text[start:end].split(None, 1)[0]
        if not field.isdigit() or len(field) > _MAX_DIGITS:
            raise self.expected(head, "a line that starts with the ID of a body")
        return int(field)

    def _misshapen(self, head: int) -> InputError:
        if self.widths[head : head + 1] != _BODY[:1]:
            return self.expected(head, f"the {_BODY[0]} fields of a body")
        if self.number(head + 1, _COUNT_WORDS) != NUM_JOINTS:
            return self.expected(head + 1, _COUNT_WORDS)
        widths = self.widths[head + 2 : head + len(_BODY)]
        joint = len(widths) - len(widths.lstrip(_BODY[-1:]))
        what = f"the {_BODY[-1]} fields of joint {joint + 1} of {NUM_JOINTS}"
        return self.expected(head + 2 + joint, what)

    def positions(self, lines: Int[np.ndarray, "rows 25"]) -> Float32[np.ndarray, "rows 25 3"]:
        """x, y and z of the joints in these lines."""
        blocks = range(0, len(lines), _BLOCK)
        values = [self._positions(lines[start : start + _BLOCK]) for start in blocks]
        return np.concatenate([np.zeros((0, NUM_JOINTS, 3), np.float32), *values])

    def _positions(self, lines: np.ndarray) -> np.ndarray:
        bounds = self.ends[self.first[lines].ravel() + np.arange(-1, 3)[:, None]]
        begin, end = (bounds[:-1] + 1).ravel(), bounds[1:].ravel()  # all x, then all y and z
        values, known = _decimals(self.raw, begin, end)
        for i in np.flatnonzero(~known):
            field = self.text[begin[i] : end[i]]
            values[i] = float(field) if _NUMBER.fullmatch(field) else np.nan
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            line = int(lines.ravel()[~finite.reshape(3, -1).all(0)].min())
            raise self.expected(line, "a line that begins with finite numbers x y z")
        return np.moveaxis(values.reshape(3, *lines.shape), 0, -1)

    def tracking(self, lines: Int[np.ndarray, "rows 25"]) -> UInt8[np.ndarray, "rows 25"]:
        """The tracking states of the joints in these lines."""
        end = self.ends[self.first[lines] + _BODY[-1] - 1]
        states = self.raw[end - 1] - np.uint8(ord("0"))
        good = (states <= TRACKED) & (self.raw[end - 2] <= ord(" "))
        if not good.all():
            line = int(lines[~good].min())
            raise self.expected(line, "a line that ends with tracking state 0, 1 or 2")
        return states


def _single_spaced(text: bytes) -> bytes:
    """The same lines of the same fields, each field followed by one space or the line's end."""
    if b"\r" in text:
        raw = np.frombuffer(text, np.uint8)
        if ((raw[:-1] != ord("\r")) | (raw[1:] == ord("\n"))).all():
            text = text.translate(None, b"\r")  # faster than replacing pairs
    solid = np.frombuffer(text, np.uint8) > ord(" ")
    if text.endswith(b"\n") and (solid[1:] | solid[:-1]).all():
        return text
    return b"".join(b" ".join(line.split()) + b"\n" for line in text.split(b"\n"))


def _decimals(
    raw: UInt8[np.ndarray, " bytes"], begin: Int[np.ndarray, " n"], end: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Parses the decimal numbers in raw[begin:end]; returns them and a mask of valid ones.

    Up to 15 digits, a point among them or not, perhaps after a minus. The digits make an integer
    and the point a power of ten, both exact in float64, so their quotient is rounded once.
    """
    minus = raw[begin] == ord("-")
    length = np.minimum(end - begin - minus, 255).astype(np.uint8)
    # One row for each place, units last. No field ends within the first 16 bytes of a text.
    windows = np.ndarray(len(raw) - _WINDOW + 1, f"V{_WINDOW}", raw, strides=1)[end - _WINDOW]
    chars = np.ascontiguousarray(windows.view(np.uint8).reshape(-1, _WINDOW).T)
    inside = length > _PLACES
    is_point = (chars == ord(".")) & inside
    digits = chars - np.uint8(ord("0"))
    is_digit = (digits < 10) & inside
    num_digits, num_points = (mask.sum(0, dtype=np.uint8) for mask in (is_digit, is_point))
    known = (num_points <= 1) & (num_digits >= 1) & (num_digits + num_points == length)
    known &= length < _WINDOW  # below 10^15, and so exact
    number = digits * is_digit
    for dtype, base in ((np.uint8, 10), (np.uint16, 100), (np.uint32, 10_000), (float, 1e8)):
        number = number[0::2].astype(dtype) * dtype(base) + number[1::2]
    decimals = (_PLACES * is_point).sum(0, dtype=np.uint8)
    has_point = known & (num_points == 1)
    scale = _TENS[np.where(has_point, decimals, 0)]
    # The point takes one place, so digits before it are ten times too large.
    whole = np.where(has_point, np.floor(number[0] / (10 * scale)), 0.0)
    values = (number[0] - 9 * scale * whole) / scale
    return np.where(minus, -values, values), known
