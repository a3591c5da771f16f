import json

import pytest
from custom_folders import LAYOUT


@pytest.fixture
def folder(tmp_path):
    """A folder with a layout and no clip yet."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "layout.json").write_text(json.dumps(LAYOUT))
    return folder
