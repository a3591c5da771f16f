"""Config dataclasses from and to plain mappings, strictly: unknown keys and wrong types fail."""

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from igm_jax.errors import InputError


def nearest(name: str, known: Iterable[str]) -> str:
    """Hint ` (did you mean 'x'?)` for an error message, or "" without a similar name."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def from_mapping(cls: type, values: Mapping[str, Any]) -> Any:
    """Builds a (nested) frozen dataclass from a mapping and refuses unknown keys and types.

    Args:
      cls: the dataclass.
      values: key → value; nested dataclasses are nested mappings. Keys left out keep the default
        that they have in `cls`.

    Returns:
      An instance of `cls`.

    Raises:
      InputError: an unknown key (naming the nearest known one) or a value of another type.
    """
    return cls(**_converted(cls, values, ""))


def _converted(base: Any, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Values for the fields of a dataclass.

    Args:
      base: the class, or an instance, whose groups keep what `values` leaves out.
      values: as in `from_mapping`.
      prefix: name of this part, for messages.
    """
    hints = typing.get_type_hints(base if isinstance(base, type) else type(base))
    fields = {f.name for f in dataclasses.fields(base)}
    converted = {}
    for key, value in values.items():
        name = prefix + key
        if key not in fields:
            raise InputError(f"config has no key {name!r}{nearest(key, fields)}")
        default = getattr(base, key, None)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            if not isinstance(value, Mapping):
                raise InputError(f"config key {name!r} is a group of keys, not {value!r}")
            group = _converted(default, value, f"{name}.")
            converted[key] = dataclasses.replace(default, **group)
        elif default == () and isinstance(value, list | tuple) and not value:
            converted[key] = ()
        else:
            converted[key] = _convert(hints[key], value, name)
    return converted


def _convert(kind: Any, value: Any, name: str) -> Any:
    if isinstance(kind, types.UnionType):  # float | None
        return None if value is None else _convert(typing.get_args(kind)[0], value, name)
    if isinstance(kind, types.GenericAlias):  # tuple[float, float] or tuple[float, ...]
        items = typing.get_args(kind)
        what = "names" if items[0] is str else "numbers"
        if not isinstance(value, list | tuple) or not value:
            raise InputError(f"config key {name!r} needs a tuple of {what}, not {value!r}")
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise InputError(f"config key {name!r} needs {len(items)} {what}, not {value!r}")
        return tuple(_convert(item, v, name) for item, v in zip(items, value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"config key {name!r} needs {kind.__name__}, not {value!r}")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """Converts a config to plain JSON types; `from_mapping` is the inverse."""
    plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731
    return {
        f.name: to_mapping(v) if dataclasses.is_dataclass(v) else plain(v)
        for f in dataclasses.fields(config)
        for v in [getattr(config, f.name)]
    }


def documented(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every key of a config with its value and its meaning.

    The meaning is what the `Attributes` of the dataclass's docstring say. It is empty under
    `python -OO`, which drops docstrings.

    Args:
      config: a frozen dataclass, perhaps of others.
      prefix: name of this part.

    Yields:
      `(key, value, meaning)`, the groups of keys one after the other.
    """
    text = (inspect.getdoc(type(config)) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", text, flags=re.M)
    fields = dataclasses.fields(config)
    meanings = {key: " ".join(meaning.split()) for key, meaning in entries}
    # A group's keys stand behind the keys beside it.
    for field in sorted(fields, key=lambda f: dataclasses.is_dataclass(getattr(config, f.name))):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from documented(value, f"{name}.")
        else:
            yield name, value, meanings.get(field.name, "")
