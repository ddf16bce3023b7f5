"""The cases that `tools/reference.py` writes."""
