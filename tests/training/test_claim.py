"""A run folder is claimed: the commit is recorded, and a data store is refused."""

import subprocess

import pytest

from igm_jax.errors import InputError
from igm_jax.training import claim


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git in a repository of one file, in which the code believes to lie."""
    monkeypatch.setattr(claim, "__file__", str(tmp_path / "code.py"))
    name = ("-c", "user.name=a", "-c", "user.email=a@b")

    def git(*arguments):
        command = ["git", *name, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return git


def test_commit_and_whether_files_differ_from_it(git, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert claim._commit() == "unknown"
    git("init")
    (tmp_path / "code.py").write_text("a = 1")
    git("add", "code.py")
    git("commit", "-m", "first")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "untracked").touch()
    assert claim._commit() == commit
    (tmp_path / "code.py").write_text("a = 2")
    assert claim._commit() == f"{commit}-dirty"
    index = (tmp_path / ".git" / "index").read_bytes()
    (tmp_path / "code.py").write_text("a = 1")  # as committed, but newer: `describe` would note it
    assert claim._commit() == commit
    assert (tmp_path / ".git" / "index").read_bytes() == index


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert claim._commit() == "unknown"


def test_no_run_begins_in_a_data_store(tmp_path):
    (tmp_path / "frames.npy").touch()
    with pytest.raises(InputError, match="is a data store: choose another --run"):
        claim.begin(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["frames.npy"]
