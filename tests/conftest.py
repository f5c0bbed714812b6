"""How property tests run: the same examples each time, at whatever speed the machine has, and failures told as found.

`HYPOTHESIS_PROFILE=search` looks at new examples each time, keeps what it found, and makes failures small.
"""

from __future__ import annotations

import logging
import os

from hypothesis import Phase, settings

from tests.support.ministack import ministack_server, ministack_url
from tests.support.moto import moto_url

__all__ = ["ministack_server", "ministack_url", "moto_url"]  # fixtures for whoever asks by name

# Making a failing timetable smaller runs it thousands of times: minutes in which nothing is told.
_WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)

settings.register_profile(
    "default", derandomize=True, deadline=None, database=None, phases=_WITHOUT_SHRINKING, max_examples=40
)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# moto's server tells every request; where a test has switched our log on, that would be what a command says.
logging.getLogger("werkzeug").setLevel(logging.ERROR)
