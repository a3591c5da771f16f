"""Checks that the groups of config keys share."""

from typing import Any

from igm_jax import arguments
from igm_jax.arguments import check_choice

__all__ = ["check_at_least", "check_choice"]


def check_at_least(group: str, config: Any, least: int, *names: str) -> None:
    """Raises InputError if one of these keys of a group is below `least`."""
    for name in names:
        arguments.check_at_least(f"{group}.{name}", getattr(config, name), least)
