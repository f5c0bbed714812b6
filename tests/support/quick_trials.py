"""Runs the gateway with larger pictures tried after two seconds: `python -m tests.support.quick_trials serve`."""

from __future__ import annotations

import sys

from gateway.__main__ import main
from gateway.packaging.rtp import link_quality

if __name__ == "__main__":
    link_quality._FIRST_TRIAL, link_quality._SETTLE_SECONDS = 2.0, 1.0  # type: ignore[misc]
    sys.exit(main())
