"""Puts this clone first on the path, so that its scripts run uninstalled and use its own code."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
