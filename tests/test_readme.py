"""Code in README and docs runs as written, commands in smoke variants; links lead somewhere."""

import pathlib
import re
import sys

import pytest
from commands import ROOT, output

import igm_jax

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
}
README, OWN_DATA = PAGES["README.md"], PAGES["docs/own_data.md"]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands_of(text):
    return [
        line.split()
        for block in blocks("bash", text)
        for line in block.splitlines()
        if line.startswith("python experiments/")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the README's commands were run, the training ones as smoke tests."""
    folder = tmp_path_factory.mktemp("readme")
    commands = commands_of(README)
    assert [c[1] for c in commands] == [
        f"experiments/{name}.py"
        for name in ("prepare_data", "pretrain", "linear_probe", "knn", "report")
    ]
    for _, script, *flags in commands:
        if "prepare_data" in script:
            # As many as in test_commands.py, whose compiled programs then serve here.
            flags = [*flags, "--num_clips=192"]
        if "pretrain" in script:
            flags = [re.sub(r"configs/(\w+)\.py", rf"{ROOT}/configs/\1.py:smoke", f) for f in flags]
            flags += ["--run=runs/synthetic-xsub"]
        if "report" in script:
            flags = [*flags, "--clips=16", "--generate=1"]
        output(folder, sys.executable, ROOT / script, *flags)
    return folder


def test_commands_leave_what_the_readme_says(folder):
    made = {p.name for p in (folder / "runs" / "synthetic-xsub").iterdir()}
    assert made >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "linear_probe.json",
        "knn.json",
        "report.html",
    }


def test_python_block_of_the_readme_runs(folder):
    (code,) = blocks("python")
    assert output(folder, sys.executable, "-c", code).strip()


def test_python_block_of_the_losses_runs(tmp_path):
    (code,) = blocks("python", PAGES["docs/losses.md"])
    printed = output(tmp_path, sys.executable, "-c", code)
    assert re.match(r"loss -?[\d.]+, rank [\d.]+, align -?[\d.]+\ncoding length [\d.]+\n", printed)


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    """Paths between backticks, and the scripts and configs that commands name."""
    folders = "igm_jax|configs|experiments|benchmarks|docs"
    quoted = re.findall(rf"`((?:{folders})/[\w./]*)`", PAGES[page])
    used = re.findall(r"(?:python |bash |--config=)((?:\w+/)+\w+\.(?:py|sh))", PAGES[page])
    for path in quoted + used:
        assert (ROOT / path).exists() or "NAME" in path, path


def anchors(page):
    """The names by which GitHub knows the headings of a page."""
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.resolve().exists(), link
        if heading:
            assert heading in anchors(str(target.resolve().relative_to(ROOT))), link


def test_index_lists_every_page():
    listed = set(re.findall(r"\]\((\w+\.md)\)", PAGES["docs/README.md"]))
    assert listed == {p.name for p in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {igm_jax.__version__}\n" in citation


def test_own_data_from_the_first_line_to_the_tables(tmp_path):
    (code,) = blocks("python", OWN_DATA)
    assert output(tmp_path, sys.executable, "-c", code) == "my_clips: 60 clips\n"
    scripts = []
    for _, script, *flags in commands_of(OWN_DATA):
        flags = [flag.replace("=configs/", f"={ROOT}/configs/") for flag in flags]
        printed = output(tmp_path, sys.executable, ROOT / script, *flags)
        if script.endswith("prepare_data.py"):
            promised = re.findall(r"^(?:suggested|next:) .*", OWN_DATA, flags=re.M)
            assert printed.splitlines()[-len(promised) :] == promised
        scripts.append(pathlib.Path(script).stem)
    assert scripts == ["prepare_data", "pretrain", "linear_probe", "knn"]
    made = {p.name for p in (tmp_path / "runs" / "custom-xsub-smoke").iterdir()}
    assert made >= {"checkpoints", "linear_probe.json", "knn.json"}
