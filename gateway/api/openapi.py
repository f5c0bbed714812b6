"""openapi.json: the route table and the schemas as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from gateway.api.route import Route
from gateway.api.schemas import SCHEMAS

_REF: Final = "#/components/schemas/{model}"
_DESCRIPTIONS: Final = {
    202: "Accepted: the work continues in the background.",
    400: "The request is wrong; `field` names the part.",
    401: "The token is missing or wrong.",
    403: "Not allowed: the user's role, the sign-in or signature; with a session: X-CSRF-Token or the page's origin.",
    404: "Not found.",
    405: "The route does not support this method.",
    409: "Not possible in the present state.",
    413: "Too large.",
    422: "The object in the request cannot be used for this.",
    429: "Too many wrong tokens or passwords from this address, or too many clips of the channel.",
    502: "A service that the gateway called refused the request.",
    503: "The store or another service is unavailable; try again later.",
    507: "Not enough disk space.",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Returns the whole description as JSON values."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    bodies = {route.body for route in routes if route.body}
    for name, adapter in SCHEMAS.items():
        inputs.append((name, "validation" if name in bodies else "serialization", adapter))
    references, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    schemas = {name: _clean(schema) for (name, _), schema in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_template(route), {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace admin API",
            "version": version,
            "description": "Channels, live sessions and the node itself. Field names are those of the stored items.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"session": [], "csrf": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin token, or a token of the sign-in provider.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "millrace_session",
                    "description": "The session that POST /login opens.",
                },
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-CSRF-Token",
                    "description": "`csrf` of GET /login; needed with a session, except for GET and HEAD.",
                },
            },
            "schemas": _clean(definitions.get("$defs", {}), names=True),
        },
    }


def _clean(schema: Any, names: bool = False) -> Any:
    """Returns a schema without pydantic's titles and null defaults. A null default only means "optional"."""
    if isinstance(schema, list):
        return [_clean(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _clean(value, names=key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or not (key == "title" or (key == "default" and value is None))
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", _template(route))
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {
            str(route.status): {"description": route.summary + ".", "content": _content(route.answer, schemas)}
        },
    }
    parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _content(route.body, schemas)}
    if route.public:
        operation["security"] = []
    for status in sorted(_other_statuses(route, names)):
        name = dict(route.other_answers).get(status, route.answer if status < 300 else "Error")
        operation["responses"][str(status)] = {"description": _DESCRIPTIONS[status], "content": _content(name, schemas)}
    return operation


def _other_statuses(route: Route, names: list[str]) -> set[int]:
    statuses = set(route.statuses)
    if not route.public:
        statuses |= {401, 403, 429}
    if route.body or route.query:
        statuses.add(400)
    if names and route.tag != "node-media-server":
        statuses.add(404)
    if route.tag == "Channels" or route.path == "/domains":
        statuses.add(503)
    return statuses


def _content(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a body. name: a schema, or a media type if the body is not JSON."""
    if "/" in name:
        return {name: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[name]}}


def _template(route: Route) -> str:
    """Returns the path as OpenAPI writes it, without the router's patterns."""
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)


def _operation_id(route: Route) -> str:
    segments = [segment.strip("{}").replace(".", "_") for segment in _template(route).split("/") if segment] or ["home"]
    return "_".join([route.method.lower(), *segments])
