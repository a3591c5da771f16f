"""Bars are shown by commands on a terminal alone, and never change what is counted."""

import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from igm_jax import progress
from igm_jax.evaluation.linear_probe import linear_probe


@pytest.fixture
def screen(monkeypatch):
    """Text that a terminal is shown."""
    text = io.StringIO()
    console = rich.console.Console(file=text, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "_console", console)
    return text


def test_nothing_is_shown_in_a_library_call_or_a_pipe(monkeypatch, capsys):
    assert list(progress.counted("abc", "letters", 3)) == ["a", "b", "c"]
    progress.show()  # the standard error of a test is no terminal
    with progress.bar("letters", 3) as advance:
        assert progress.ticking() is None
        advance(1)
        progress.tick()
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_count_rate_and_time_left(screen):
    parts = ["ab", "c", "def"]
    assert list(progress.counted(parts, "letters", 6, len)) == parts
    shown = screen.getvalue()
    assert "letters" in shown and "6/6" in shown and "/s" in shown and "0:00:0" in shown


def test_the_outer_bar_is_shown(screen):
    with progress.bar("outer", 2):
        assert list(progress.counted("ab", "inner", 2)) == ["a", "b"]
        progress.tick()
        progress.tick()
    assert "inner" not in screen.getvalue() and "2/2" in screen.getvalue()
    assert progress.ticking() is None


def test_a_bar_ends_with_an_error(screen):
    with pytest.raises(KeyError), progress.bar("x", 2):
        raise KeyError
    assert progress.ticking() is None


def test_lines_for_a_pipe_are_not_drawn(screen, capsys):
    with progress.bar("x", 1):
        print("result")
    assert capsys.readouterr().out == "result\n" and "result" not in screen.getvalue()
    assert not sys.stdout.isatty()


def test_a_compiled_probe_counts_its_epochs_and_learns_the_same(screen):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(20, 4)), jnp.float32), jnp.asarray(rng.integers(3, size=20))
    given = (x, y, x, y, jnp.array([0.1, 1.0]))
    settings = {"num_classes": 3, "epochs": 5, "batch_size": 8}
    quiet = linear_probe(*given, **settings)
    with progress.bar("epochs", 5):
        counted = linear_probe(*given, **settings, report=progress.ticking())
        np.testing.assert_allclose(counted.accuracy, quiet.accuracy)
        np.testing.assert_allclose(counted.heads.kernel, quiet.heads.kernel, atol=1e-6)
        jax.effects_barrier()
    assert "5/5" in screen.getvalue()
