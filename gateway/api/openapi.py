"""openapi.json: the route table and the schemas as an OpenAPI 3.1 document."""

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from gateway.api.route import Route
from gateway.api.schemas import Error

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
    429: "Too many wrong tokens or passwords from this address, or too many clips, cues or metadata of the channel.",
    502: "A service that the gateway called refused the request.",
    503: "The store or another service is unavailable; try again later.",
    507: "Not enough disk space.",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Returns the whole description as JSON values."""
    operations = [route.operation for route in routes]
    bodies = {operation.body for operation in operations if operation.body is not None}
    answers = {answer for operation in operations for _, answer in ((0, operation.answer), *operation.other_answers)}
    types = sorted((type for type in bodies | answers | {Error} if not isinstance(type, str | None)), key=str)
    modes: dict[Any, JsonSchemaMode] = {type: "validation" if type in bodies else "serialization" for type in types}
    references, definitions = TypeAdapter.json_schemas(
        [(type, modes[type], TypeAdapter(type)) for type in types], ref_template=_REF
    )
    schemas = {type: _clean(schema) for (type, _), schema in references.items()}
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
                    "description": "The session that POST /login opens. Scheme and port precede this name in browsers.",
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


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation, names = route.operation, re.findall(r"{(\w+)}", _template(route))
    success: dict[str, Any] = {"description": f"{operation.summary}."}
    if operation.answer is not None:
        success["content"] = _content(operation.answer, schemas)
    described: dict[str, Any] = {"operationId": _operation_id(route), "summary": operation.summary, "tags": [route.tag]}
    described["responses"] = {str(operation.status): success}
    parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.query
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    if route.public:
        described["security"] = []
    for status in sorted(_other_statuses(route, names)):
        type = dict(operation.other_answers).get(status, operation.answer if status < 300 else Error)
        described["responses"][str(status)] = {"description": _DESCRIPTIONS[status], "content": _content(type, schemas)}
    return described


def _other_statuses(route: Route, names: list[str]) -> set[int]:
    operation = route.operation
    statuses = set(operation.statuses)
    if not route.public:
        statuses |= {401, 403, 429}
    if operation.body or operation.query:
        statuses.add(400)
    if names and route.tag != "node-media-server":
        statuses.add(404)
    if route.tag == "Channels" or route.path == "/domains":
        statuses.add(503)
    return statuses


def _content(type: Any, schemas: dict[Any, Any]) -> dict[str, Any]:
    """Returns the content of a body. type: of the JSON, or a media type if the body is not JSON."""
    if isinstance(type, str):
        return {type: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[type]}}


def _template(route: Route) -> str:
    """Returns the path as OpenAPI writes it, without the router's patterns."""
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)


def _operation_id(route: Route) -> str:
    segments = [segment.strip("{}").replace(".", "_") for segment in _template(route).split("/") if segment] or ["home"]
    return "_".join([route.method.lower(), *segments])
