"""Imports structlog without two optional packages, which saves 4 MB in every process.

structlog imports rich and greenlet if they are installed. Millrace renders its log lines itself. The programs import
this module before all modules that log.
"""

import sys

_absent = [name for name in ("rich", "greenlet") if name not in sys.modules]
for _name in _absent:
    sys.modules[_name] = None  # type: ignore[assignment]  # its import raises ImportError, which structlog expects
try:
    import structlog  # noqa: F401
finally:
    for _name in _absent:
        del sys.modules[_name]
