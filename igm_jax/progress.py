"""Progress of long work on the terminal: a bar with rate and time left.

Commands turn it on (`cli.run`); in a library call, and where the output is no terminal, nothing is
shown. Of nested bars only the outer one is shown.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import rich.console
import rich.progress
from rich.text import Text

Item = TypeVar("Item")

_console: rich.console.Console | None = None
_advance: Callable[[int], None] | None = None  # of the bar that is shown


class _Rate(rich.progress.ProgressColumn):
    """Items a second."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")


def columns() -> tuple[rich.progress.ProgressColumn, ...]:
    """Columns of every bar: what, how many of how many, rate, time so far and time left."""
    return (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )


def show() -> None:
    """Shows bars from now on, if the standard error stream is a terminal."""
    global _console
    console = rich.console.Console(stderr=True)
    _console = console if console.is_terminal else None


@contextlib.contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a bar, which vanishes at the end.

    Args:
      what: is counted, in words.
      total: number of items; None if it is not known.

    Yields:
      A function that is called with the number of further items that are done.
    """
    global _advance
    if _console is None or _advance is not None:
        yield lambda count: None
        return
    # Lines that are printed meanwhile stand above the bar; those for a file or a pipe go there.
    settings = {"transient": True, "redirect_stdout": sys.stdout.isatty()}
    with rich.progress.Progress(*columns(), console=_console, **settings) as shown:
        task = shown.add_task(what, total=total)
        _advance = functools.partial(shown.advance, task)
        try:
            yield _advance
        finally:
            _advance = None


def tick() -> None:
    """Counts one item of the bar that is shown; a compiled program can call it back."""
    if _advance is not None:
        _advance(1)


def ticking() -> Callable[[], None] | None:
    """`tick` if a bar is shown, or None, so that compiled programs make no useless callback."""
    return None if _advance is None else tick


def counted(
    items: Iterable[Item], what: str, total: int | None, size: Callable[[Item], int] = lambda _: 1
) -> Iterator[Item]:
    """Yields items, and counts each when the next one is asked for.

    Args:
      items: read one by one.
      what: see `bar`.
      total: see `bar`.
      size: what an item counts.
    """
    with bar(what, total) as advance:
        for item in items:
            yield item
            advance(size(item))
