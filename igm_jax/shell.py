"""Commands of experiments/ as a user can paste them into a shell."""

import shlex
from typing import Any


def command(script: str, *words: Any) -> str:
    """A command of experiments/ as a user can paste it; `FILES…` is left as it is."""
    quoted = (word if word == "FILES…" else quote(str(word)) for word in words)
    return " ".join(["python", f"experiments/{script}", *quoted])


def quote(word: str) -> str:
    """Quotes a word for a shell: in double quotes if it has single ones, as tuples of names do.

    >>> print(quote("--config.data.streams=('motion', 'bone')"))
    "--config.data.streams=('motion', 'bone')"
    """
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)
