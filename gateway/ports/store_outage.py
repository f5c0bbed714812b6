"""An outage of a store, as one part of the program sees it: the part goes on, and the log names the outage once."""

from types import TracebackType

import structlog

from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class StoreOutage:
    """Encloses work that the part repeats: `with outage: ...` suppresses StoreUnavailable, or the given errors.

    text: what the log says at the first failure. lasts: whether the last attempt has failed.
    """

    def __init__(self, text: str, errors: type[Exception] | tuple[type[Exception], ...] = StoreUnavailable) -> None:
        self._text, self._errors = text, errors
        self.lasts = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, self._errors):
            if not self.lasts:
                log.warning(self._text, reason=str(error))
            self.lasts = True
            return True
        self.lasts = self.lasts and error is not None
        return False
