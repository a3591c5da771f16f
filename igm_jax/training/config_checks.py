"""Checks that the groups of config keys share."""

from typing import Any

from igm_jax.errors import InputError


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(choices)}")


def check_at_least(group: str, config: Any, least: int, *names: str) -> None:
    """Raises InputError if one of these keys of a group is below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise InputError(f"{group}.{name}={getattr(config, name)}: must be at least {least}")
