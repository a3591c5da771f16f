"""The installed package: wheel, requirements, and text where the locale is not UTF-8."""

import ast
import json
import os
import pathlib
import re
import shutil
import sys
import sysconfig
import zipfile
from importlib import metadata

import pytest
from commands import ROOT, output

# The locale of a bare container: text is ASCII there unless a program says otherwise.
ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

# Requirements whose modules have another name; None for a tool that nobody imports.
MODULES = {
    "absl-py": "absl",
    "ml-collections": "ml_collections",
    "orbax-checkpoint": "orbax",
    "chex": None,  # a package the project is built on; only the tests call it
    "opentsne": "openTSNE",
    "flatbuffers": None,  # JAX writes and reads exported programs with it
    "pillow": None,  # Matplotlib writes GIFs with it
    "pytest-xdist": None,
    "ruff": None,
    "pyright": None,
    "setuptools": None,
    "scikit-learn": "sklearn",
    "tensorboardx": "tensorboardX",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy: setuptools leaves its work beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "igm_jax", folder / "igm_jax", ignore=ignore)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-index", "--quiet")
    out = folder / "out"
    output(
        folder,
        *pip,
        "wheel",
        *offline,
        "--no-build-isolation",
        f"--wheel-dir={out}",
        ".",
        env=ASCII,
    )
    (file,) = out.glob("*.whl")
    output(folder, *pip, "install", *offline, f"--target={folder / 'target'}", file, env=ASCII)
    return file, folder / "target"


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel[0]) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    endings = (".py", ".html", ".css", ".js")
    files = (p for p in (ROOT / "igm_jax").rglob("*") if p.suffix in endings)
    assert held == {*(str(p.relative_to(ROOT)) for p in files), "igm_jax/py.typed"}


IMPORTS = """
import importlib, json, pkgutil, sys
sys.path[:0] = sys.argv[1:]
import igm_jax
def loaded(*names):
    return [name for name in names if name in sys.modules]
assert not loaded("jax"), "the package itself costs nothing"
assert igm_jax.losses.normalize is importlib.import_module("igm_jax.losses").normalize
assert not loaded("flax", "orbax", "grain", "optax"), "a loss costs JAX alone"
assert igm_jax.models.Encoder and igm_jax.data.SkeletonStore and igm_jax.load_encoder
assert {*igm_jax.__all__} <= {*dir(igm_jax)}
exec("from igm_jax import *")
assert all(globals()[name] is getattr(igm_jax, name) for name in igm_jax.__all__)
try:
    igm_jax.lossse
except AttributeError as error:
    assert "lossse" in str(error)
modules = [m.name for m in pkgutil.walk_packages(igm_jax.__path__, "igm_jax.")]
for name in modules:  # each as the first that is imported
    for known in [m for m in sys.modules if m.split(".")[0] == "igm_jax"]:
        del sys.modules[known]
    importlib.import_module(name)
print(json.dumps([igm_jax.__file__, igm_jax.__version__, len(modules)]))
"""


def test_wheel_is_imported_from_an_empty_environment(wheel, tmp_path):
    """Nothing on the path but itself and what is installed: no checkout, no .pth file."""
    target = wheel[1]
    script = tmp_path / "imports.py"
    script.write_text(IMPORTS, encoding="utf-8")
    packages = sysconfig.get_path("purelib")
    env = {**ASCII, "MPLCONFIGDIR": str(tmp_path)}
    said = output(tmp_path, sys.executable, "-I", "-S", script, target, packages, env=env)
    file, version, count = json.loads(said.splitlines()[-1])
    assert pathlib.Path(file).is_relative_to(target) and count > 40
    (distribution,) = metadata.distributions(name="igm_jax", path=[str(target)])
    assert distribution.version == version


RESOLVES = """
import pkgutil, igm_jax
names = [module.name for module in pkgutil.iter_modules(igm_jax.__path__)]
assert {*names} <= {*dir(igm_jax)}, {*names} - {*dir(igm_jax)}
for name in reversed(names):  # one import sets others as attributes
    igm_jax.__dict__.pop(name, None)
    assert getattr(igm_jax, name).__name__ == f"igm_jax.{name}"
print(*names)
"""


def test_every_module_is_an_attribute_of_the_package(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)}
    resolved = output(tmp_path, sys.executable, "-c", RESOLVES, env=env).split()
    assert {"evaluation", "finetuning", "prediction", "run_folder"} <= {*resolved}


def imported(*folders):
    """Third-party modules that Python files under the folders import, anywhere in them."""
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names


def test_requirements_are_what_the_code_imports(wheel):
    """Both ways: nothing that is imported is left out, nothing that is required is unused."""
    (distribution,) = metadata.distributions(name="igm_jax", path=[str(wheel[1])])
    required = {}
    for line in distribution.requires:
        name = re.match(r"[\w-]+", line)[0].lower()
        extra = re.search(r'extra == "(\w+)"', line)
        if name != "jax" or not extra:  # cuda12 and the like: JAX with a plugin
            required.setdefault(extra and extra[1], set()).add(MODULES.get(name, name))
    product = imported("igm_jax", "experiments", "configs")
    product -= {"igm_jax", "configs", "_clone", "_files"}
    product -= {p.stem for p in (ROOT / "configs").glob("*.py")}
    # jaxlib comes with jax. jax2onnx asks for an older orbax-checkpoint, so no extra can have it.
    allowed = {"jaxlib", "jax2onnx"}
    extras = required["viz"] | required["export"] | required["torch"]
    assert product - allowed == (required[None] | extras) - {None}
    assert "torch" in required["bench"] and "torch" in imported("benchmarks", "tests")
    assert not (required["bench"] | extras) & required[None] - {None}
    used = product | imported("tests") | {"beartype"}  # which conftest.py names to jaxtyping
    assert required["test"] - {None} <= used


# Text


def without_encoding(tree):
    """Calls that open a text file, or a pipe, in the encoding of the locale."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg for k in node.keywords}
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", None)
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        modes = [m for m in texts if isinstance(m, str) and re.fullmatch(r"[rwaxbt+]{1,4}", m)]
        binary = any("b" in mode for mode in modes)
        if name == "open":
            # SkeletonStore.open(path) and archives are no files: their argument is no mode.
            opens = not method or not node.args or bool(modes)
            bad = opens and not binary and "encoding" not in given
        elif name == "fdopen":
            bad = not binary and "encoding" not in given
        elif name in ("read_text", "write_text"):
            bad = "encoding" not in given and len(node.args) < (1 if name == "read_text" else 2)
        else:
            bad = "text" in given and "encoding" not in given
        if bad:
            yield node.lineno


def test_every_text_file_is_utf8():
    found = []
    files = [ROOT / "setup.py", pathlib.Path(__file__).parent / "test_readme.py"]
    for folder in ("igm_jax", "experiments", "benchmarks", "configs"):
        files += sorted((ROOT / folder).rglob("*.py"))
    for path in files:
        lines = without_encoding(ast.parse(path.read_text(encoding="utf-8")))
        found += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    assert not found, 'give encoding="utf-8"'


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        ("open(p)", True), ("open(p, 'rb')", False), ("p.open('a')", True), ("p.open()", True),
        ("open(p, encoding='utf-8')", False), ("Store.open(p)", False), ("p.read_text()", True),
        ("p.write_text(x)", True), ("p.write_text(x, 'utf-8')", False), ("run(c, text=True)", True),
        ("p.open('a', encoding='utf-8')", False), ("os.fdopen(1, 'w')", True),
    ],
)  # fmt: skip
def test_the_check_of_text_files_sees(code, bad):
    assert bool([*without_encoding(ast.parse(code))]) is bad


def test_a_command_prints_where_the_terminal_knows_ascii_only(tmp_path):
    code = (
        "import sys; from igm_jax import cli; sys.argv = ['x']\n"
        "cli.run(lambda: print('\\u0394 5', '\\u8d70', 'caf\\udcc3'))"
    )
    env = {**ASCII, "PYTHONPATH": str(ROOT)}
    assert output(tmp_path, sys.executable, "-c", code, env=env) == "? 5 ? caf?\n"
