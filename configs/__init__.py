"""One file a data set; `base.py` lists every key."""
