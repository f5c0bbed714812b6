"""The rules of the alarms, for administrators. The secrets of their targets are masked."""

import json
from typing import Any, Final

import structlog
from aiohttp import web
from pydantic import ValidationError

from gateway.alarms.alarms import Alarms
from gateway.alarms.fault import FaultKind
from gateway.alarms.rule import MAX_AFTER, MAX_CHANNELS, MAX_GIGABYTES, MAX_RULES, AlarmRule, StoredRules, restored
from gateway.api import console_schemas
from gateway.api.answers import BadRequest, Missing, answer, refusal
from gateway.api.authenticators import USER
from gateway.api.body import json_array
from gateway.api.context import CLIENT, CONTEXT
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.channels.message_target import DeliveryFailed
from gateway.ports.errors import TooLarge, UnreadableRow

log = structlog.get_logger(__name__)

ALARMS: Final = web.AppKey("alarms", Alarms)
_EXPECTED: Final = {
    "name": "expected text of 1 to 64 characters, without slashes",
    "on": f"expected a list of {', '.join(FaultKind)}",
    "gigabytes": f"expected a number of gigabytes from 0 to {MAX_GIGABYTES:.0f}",
    "after": f"expected a number of seconds from 0 to {MAX_AFTER}",
    "channels": f"expected a list of at most {MAX_CHANNELS} ids",
    "to": "expected an address",
    "stops": "expected true or false",
    "quiet": 'expected {"from": "23:00", "to": "07:00", "zone": "Europe/Berlin"} or null',
}


@operation(list[AlarmRule], statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """List the rules of the alarms."""
    return _shown(await request.app[ALARMS].rules())


@operation(list[AlarmRule], body=list[AlarmRule], statuses=(413, 503))
async def update(request: web.Request) -> web.Response:
    """Replace the rules of the alarms.

    A masked address stands for the stored one. Its other parts must be the same.
    """
    context, alarms = request.app[CONTEXT], request.app[ALARMS]
    sent = await json_array(request)
    try:
        before = await alarms.rules()
    except UnreadableRow:  # they are replaced
        before = StoredRules()
    if len(sent) > MAX_RULES:
        raise BadRequest(f"at most {MAX_RULES} rules are possible")
    rules = [_read(restored(value, before.rules)) for value in sent]
    if len({rule.name for rule in rules}) != len(rules):
        raise BadRequest("two rules have the same name", field="name")
    stored = before.replaced(rules, request[CLIENT].origin)
    size = len(json.dumps(stored.as_json()))
    if size > context.limits.item > 0:
        raise TooLarge(size, context.limits.item, "the list of rules")
    await alarms.set_rules(stored)
    log.info("alarms changed", rules=len(rules), by=request[USER].name)
    await record_change(request, "alarms", "changed")
    return _shown(stored)


@operation(console_schemas.AlarmTest, statuses=(502, 503))
async def test(request: web.Request) -> web.Response:
    """Send a test message now, and return the answer of the target in words."""
    alarms, name = request.app[ALARMS], request.match_info["name"]
    rule = next((rule for rule in (await alarms.rules()).rules if rule.name == name), None)
    if rule is None:
        raise Missing(f"there is no rule {name}")
    try:
        return answer({"sent": True, "answer": await alarms.test(rule)})
    except DeliveryFailed as error:
        return refusal(502, str(error))


def _read(value: Any) -> AlarmRule:
    """Returns a sent rule. Raises BadRequest for the first invalid field."""
    try:
        return AlarmRule.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        text = str(first.get("ctx", {}).get("error", "")) or _EXPECTED.get(name, "expected an object for each rule")
        raise BadRequest(text, field=name or None) from None


def _shown(stored: StoredRules) -> web.Response:
    return answer([rule.shown() for rule in stored.rules])
