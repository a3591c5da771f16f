"""One page about one or more runs, and the same figures for papers; needs the extra `viz`.

`describe` reads a run, `write_page` makes the page of it, `save_figures` the figures.
"""

from igm_jax.report.build import RunReport, describe
from igm_jax.report.figures import save_figures
from igm_jax.report.page import write_page

__all__ = ["RunReport", "describe", "save_figures", "write_page"]
