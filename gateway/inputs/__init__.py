"""Inputs of a channel. One at a time is on air; the others wait. Each kind of input has a folder here that exports an
`INPUT` (`descriptor.py`), which `registry.py` finds.
"""
