"""One file per step kind; `registry.py` lists them."""
