"""Reads layout.json of your own skeletons: names and relations of the joints.

name     short identifier, stored with the data
joints   the V names, in the order of the arrays
parents  for each joint the one its bone comes from, by name or index; null for a root
pairs    [[left, right], …] that mirroring exchanges; optional
origin   the joint that all coordinates but "camera" move to zero; optional, else the first root
axes     [hip centre, shoulder centre, left hip, right hip], for the coordinates "body" and
         "posture" of 3-D joints; optional
units    of the coordinates, in words; optional
missing  the number that stands for a missing coordinate, such as -1; optional
"""

import json
import math
import pathlib
from typing import Any

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_NEEDED = ("name", "joints", "parents")
_OPTIONAL = ("pairs", "origin", "axes", "units", "missing")
_UNITS = "unknown"
_LARGEST = 3.4e38  # of float32, in which clips are stored


class _Wrong(Exception):
    """A fault in layout.json, with its place."""


def read_layout(file: pathlib.Path) -> tuple[Layout, str, float | None]:
    """The layout, the units, and the value of missing coordinates if there is one.

    Raises:
      InputError: the file is missing or has a fault; names the key, the value and the rule.
    """
    if not file.is_file():
        raise InputError(
            f"{file}: no such file: write one with the keys {', '.join(_NEEDED)}, as "
            "docs/own_data.md shows"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no JSON ({error}): correct it") from error
    try:
        return _layout(values)
    except _Wrong as error:
        raise InputError(f"{file}: {error}") from error


def _layout(values: Any) -> tuple[Layout, str, float | None]:
    if not isinstance(values, dict):
        raise _Wrong("is no JSON object: write {...} with the keys " + ", ".join(_NEEDED))
    for key in _NEEDED:
        if key not in values:
            raise _Wrong(f"has no key {key!r}: add it")
    for key in values:
        if key not in _NEEDED + _OPTIONAL:
            raise _Wrong(f"key {key!r} is unknown: use {', '.join(_NEEDED + _OPTIONAL)}")
    name, units = values["name"], values.get("units", _UNITS)
    for key, text in (("name", name), ("units", units)):
        if not isinstance(text, str) or not text.strip() or not text.isprintable():
            raise _Wrong(f"{key} {text!r}: give a word or two")
    joints = _listed(values, "joints")
    for joint in joints:
        if not isinstance(joint, str) or not joint.strip() or not joint.isprintable():
            raise _Wrong(f"joints: {joint!r} is no name")
        if joints.count(joint) > 1:
            raise _Wrong(f"joints: {joint!r} is there twice: give each its own name")
    parents = [
        -1 if parent in (None, -1) else _index(joints, parent, "parents")
        for parent in _listed(values, "parents", len(joints))
    ]
    _check_tree(joints, parents)
    origin = values.get("origin")
    if origin is None:
        roots = (j for j, parent in enumerate(parents) if parent in (-1, j))
        origin = next(roots)  # without a cycle there is one
    axes = None
    if values.get("axes") is not None:
        hip, shoulder, left, right = (_index(joints, j, "axes") for j in _listed(values, "axes", 4))
        if hip == shoulder or left == right:
            raise _Wrong(
                f"axes {values['axes']}: hip and shoulder centre, and the two hips, must differ"
            )
        axes = (hip, shoulder, left, right)
    layout = Layout(
        name,
        tuple(joints),
        tuple(parents),
        _pairs(values, joints),
        _index(joints, origin, "origin"),
        axes,
    )
    return layout, units, _missing(values.get("missing"))


def _missing(value: Any) -> float | None:
    number = type(value) in (int, float) and abs(value) < _LARGEST and math.isfinite(value)
    if value is not None and not number:
        raise _Wrong(f"missing {str(value)[:40]!r}: give a number, such as -1, or leave it out")
    return None if value is None else float(value)


def _listed(values: dict[str, Any], key: str, length: int | None = None) -> list:
    value = values[key]
    if not isinstance(value, list) or not value:
        raise _Wrong(f"{key} {value!r}: give a list")
    if length is not None and len(value) != length:
        raise _Wrong(f"{key} has {len(value)} entries, not {length}")
    return value


def _index(joints: list[str], joint: Any, key: str) -> int:
    """Index of a joint that is given by name or index."""
    if isinstance(joint, str):
        if joint not in joints:
            raise _Wrong(f"{key}: {joint!r} is none of the joints: {', '.join(joints)}")
        return joints.index(joint)
    if type(joint) is not int or not 0 <= joint < len(joints):
        raise _Wrong(f"{key}: {joint!r} is no joint: give its name, or 0 to {len(joints) - 1}")
    return joint


def _check_tree(joints: list[str], parents: list[int]) -> None:
    """Raises an error if the parents of a joint do not lead to a root."""
    for joint in range(len(joints)):
        at, way = joint, []
        while parents[at] not in (-1, at):
            if at in way:
                circle = " → ".join(joints[j] for j in [*way[way.index(at) :], at])
                raise _Wrong(f"parents lead in a circle: {circle}: give one of them null")
            way.append(at)
            at = parents[at]


def _pairs(values: dict[str, Any], joints: list[str]) -> tuple[tuple[int, int], ...]:
    pairs = values.get("pairs") or []
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise _Wrong(f"pairs {pairs!r}: give a list of [left, right]")
    indices = tuple((_index(joints, a, "pairs"), _index(joints, b, "pairs")) for a, b in pairs)
    used = [joint for pair in indices for joint in pair]
    for joint in used:
        if used.count(joint) > 1:
            raise _Wrong(f"pairs: {joints[joint]!r} is there twice: a joint has one partner")
    return indices
