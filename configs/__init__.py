"""One file for each data set; `base.py` lists every key."""
