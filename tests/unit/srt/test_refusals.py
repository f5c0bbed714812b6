"""The reject codes of refused callers."""

import pytest

from gateway.ports import errors
from gateway.protocols.srt.packets import Reject
from gateway.srt.refusals import rejected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotAuthorized("wrong"), Reject.UNAUTHORIZED),
        (errors.NoSuchStream("idle"), Reject.NOT_FOUND),
        (errors.NameInUse("taken"), Reject.CONFLICT),
        (errors.AtCapacity("full"), Reject.OVERLOADED),
        (errors.StoreUnavailable("locked"), Reject.OVERLOADED),
        (errors.PushesNotAccepted("an edge"), Reject.FORBIDDEN),
        (errors.OutputError("another"), Reject.PEER),
    ],
)
def test_each_error_has_its_code(error: errors.GatewayError, code: Reject) -> None:
    assert rejected(error).code == code


def test_the_reason_names_the_error_in_200_characters_unless_one_is_given() -> None:
    assert str(rejected(errors.AtCapacity("full"))) == "AtCapacity: full"
    assert len(str(rejected(errors.AtCapacity("x" * 500)))) == 200
    assert str(rejected(errors.AtCapacity("full"), "no room")) == "no room"
