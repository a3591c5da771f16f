"""A flag means the same in every command that measures."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = [*(ROOT / "benchmarks").glob("*.py"), ROOT / "tests/torch_reference/parity.py"]


def definitions(file):
    """(name, type, help) of every flag that a file defines."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_"):
            name, *_, text = node.args
            told = text.value if isinstance(text, ast.Constant) else ast.unparse(text)
            yield name.value, node.func.attr, told


def test_a_flag_has_one_type_and_one_meaning():
    meanings = {}
    for file in COMMANDS:
        for name, kind, told in definitions(file):
            # Behind a semicolon a command says its own default.
            meaning = (kind, told.partition(";")[0].rstrip("."))
            assert meanings.setdefault(name, meaning) == meaning, (file.name, name)
    assert {"batch", "dtype", "json", "num_clips", "size", "sizes"} <= meanings.keys()
