"""The log of a run: whole lines, no matter what happens to it."""

import importlib.util
import json
import sys

import pytest

from igm_jax.errors import InputError
from igm_jax.training.log import RunLog, check_tensorboard


def test_lines_are_written_at_once_and_shown(tmp_path, capsys):
    with RunLog(tmp_path, total_steps=9) as log:
        log.report(3, {"loss": 0.5})
        log.say("hello")
        log.report(4, {"loss": 0.25}, text="half")
        written = (tmp_path / "metrics.jsonl").read_text()  # before the log is closed
    assert list(map(json.loads, written.splitlines())) == [
        {"step": 3, "loss": 0.5},
        {"step": 4, "loss": 0.25},
    ]
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["step 3  loss 0.5", "hello", "half"]
    assert captured.out == ""


def test_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "a": 1}\n{"step": 4, "a": 2}\n{"step": 5, "a": 3}\n{"step": 6, ')
    with RunLog(tmp_path, total_steps=9, start_step=4) as log:
        log.report(5, {"a": 4.0})
    assert [json.loads(x) for x in path.read_text().splitlines()] == [
        {"step": 2, "a": 1},
        {"step": 4, "a": 2},
        {"step": 5, "a": 4},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_write_that_fails_names_its_file(tmp_path):
    with pytest.raises(OSError) as caught:
        with RunLog(tmp_path, total_steps=9) as log:
            log._file.close()
            log._file = open("/dev/full", "a", encoding="utf-8", buffering=1)
            log.report(1, {"loss": 0.5})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert "No space left" in caught.value.strerror


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    with RunLog(tmp_path, total_steps=9, tensorboard=True) as log:
        log.report(3, {"loss": 0.5})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_tensorboard_without_its_package(monkeypatch):
    check_tensorboard(False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_tensorboard(False)
    with pytest.raises(InputError, match="needs tensorboardX: pip install tensorboardX"):
        check_tensorboard(True)


def test_terminal_gets_a_progress_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with RunLog(tmp_path, total_steps=40, start_step=10) as log:
        log.advance(20)
        log.report(20, {"loss": 0.5})
    shown = capsys.readouterr()
    assert "step 20  loss 0.5" in shown.out + shown.err
    assert "20/40" in shown.out + shown.err


def test_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl: line 2 is damaged"):
        RunLog(tmp_path, 10, 5)
