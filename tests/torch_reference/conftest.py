"""pytest looks for doctests in every module; those here import PyTorch, which may be missing."""

import pathlib

collect_ignore = [
    file.name
    for file in pathlib.Path(__file__).parent.glob("*.py")
    if not file.name.startswith(("test_", "__init__"))
]
