"""The OpenAPI 3.1 document, made of what the routes say of themselves."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar.routes import HTTPRoute

from ebbgate.core.model import SECOND, Settings
from ebbgate.server.refusals import ANYWHERE
from ebbgate.server.rest.describing import FRONT_PROBLEMS, OPERATION, Operation, Reply
from ebbgate.server.rest.problems import STATUSES, Problem

Json = dict[str, Any]

_ABOUT: Final = """\
Concurrency limits and rate limits that many processes share. Every slot is held under a lease with a countdown;
whoever finds no slot free waits in a fair queue. All durations are seconds, all instants RFC 3339 in UTC.
Every error is a problem document (RFC 9457) with a `code`."""

HEADERS: Final[Mapping[str, Json]] = {
    "Location": {"description": "Where what was made can be read.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "After how many seconds to ask again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Allow": {"description": "The methods that this address has.", "schema": {"type": "string"}},
}

LINKS: Final[Mapping[str, Json]] = {
    "read": {"operationId": "readLease", "parameters": {"id": "$response.body#/id"}},
    "renew": {"operationId": "renewLeases", "requestBody": {"ids": ["$response.body#/id"]}},
    "release": {"operationId": "releaseLease", "parameters": {"id": "$response.body#/id"}},
    "revoke": {"operationId": "revokeLease", "parameters": {"id": "$response.body#/id"}},
    "acquire": {
        "operationId": "acquireLease",
        "requestBody": {"limits": [{"name": "$response.body#/name"}]},
    },
    "readLimit": {"operationId": "readLimit", "parameters": {"name_or_id": "$response.body#/id"}},
    "changeLimit": {"operationId": "changeLimit", "parameters": {"name_or_id": "$response.body#/id"}},
    "deleteLimit": {"operationId": "deleteLimit", "parameters": {"name_or_id": "$response.body#/id"}},
}

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


_CODES: Final = {(code, int(status)) for code, (status, _) in STATUSES.items()} | {
    (refusal.code, refusal.status) for refusal in ANYWHERE
}


def document(routes: Iterable[object], settings: Settings) -> Json:
    """Return the document.

    Args:
        routes: the application's.
        settings: of the store: how long leases may last.
    """
    operations: list[tuple[str, str, Operation]] = []
    for route in routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                operation = handler.opt.get(OPERATION)
                if isinstance(operation, Operation):
                    method = "get" if "GET" in handler.http_methods else min(handler.http_methods).lower()
                    operations.append((route.path_format, method, operation))
    shapes = _shapes(operations)
    (*given, _), components = msgspec.json.schema_components(
        [*shapes, Problem], ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(map(repr, shapes), given, strict=True))
    _sharpen(components, settings)
    paths: Json = {}
    for path, method, operation in sorted(operations, key=lambda entry: entry[:2]):
        paths.setdefault(path, {})[method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ebbgate",
            "version": version("ebbgate"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": dict(HEADERS),
            "links": dict(LINKS),
            "responses": _problems(operations),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, if the server has any.",
                }
            },
        },
    }


def _shapes(operations: Iterable[tuple[str, str, Operation]]) -> list[object]:
    found: dict[str, object] = {}
    for _, _, operation in operations:
        for shape in (operation.body, *(reply.content for reply in operation.replies.values())):
            if shape is not None:
                found[repr(shape)] = shape
    return list(found.values())


def _sharpen(components: Json, settings: Settings) -> None:
    """Say what depends on the server, and what a type alone cannot say."""
    least, most = settings.lease_duration_min_us / SECOND, settings.lease_duration_max_us / SECOND
    for component in components.values():
        properties = component.get("properties", {})
        duration = properties.get("lease_duration_seconds")
        if duration is not None and not component.get("additionalProperties", True):
            number = duration["anyOf"][0] if "anyOf" in duration else duration
            number.pop("exclusiveMinimum")
            number |= {"minimum": least, "maximum": most}
        if "rate" in properties:
            component["not"] = {"required": ["rate", "slot_decay_per_second"]}
    components["Problem"]["properties"]["code"]["enum"] = sorted({code for code, _ in _CODES})
    components["Problem"]["additionalProperties"] = True


def _operation(operation: Operation, schemas: Mapping[str, Json]) -> Json:
    said: Json = {"operationId": operation.id, "summary": operation.summary}
    if operation.description:
        said["description"] = operation.description
    if operation.is_open:
        said["security"] = []
    if operation.parameters:
        said["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "required": parameter.required or parameter.where == "path",
                "description": parameter.description,
                "schema": parameter.schema,
                **({"example": parameter.example} if parameter.example is not None else {}),
            }
            for parameter in operation.parameters
        ]
    if operation.body is not None:
        content: Json = {"schema": schemas[repr(operation.body)]}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        said["requestBody"] = {"required": True, "content": dict.fromkeys(operation.media_types, content)}
    responses = {str(status): _reply(reply, schemas) for status, reply in operation.replies.items()}
    for status in _statuses(operation):
        responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    said["responses"] = responses
    return said


def _statuses(operation: Operation) -> list[int]:
    statuses = {*FRONT_PROBLEMS, *operation.problems}
    if operation.body is not None:
        statuses |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 422}
    return sorted(int(status) for status in statuses - set(operation.replies))


def _reply(reply: Reply, schemas: Mapping[str, Json]) -> Json:
    said: Json = {"description": reply.description}
    if reply.headers:
        said["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in reply.headers}
    if reply.content is not None:
        content: Json = {"schema": schemas[repr(reply.content)]}
        if reply.example is not None:
            content["example"] = reply.example
        said["content"] = {reply.media_type: content}
    if reply.links:
        said["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in reply.links}
    return said


def _problems(operations: Iterable[tuple[str, str, Operation]]) -> Json:
    """Return a response for each status that some operation has."""
    found: Json = {}
    for status in sorted({status for _, _, operation in operations for status in _statuses(operation)}):
        codes = sorted(code for code, its in _CODES if its == status)
        said: Json = {"description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}"}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            said["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
        said["content"] = _PROBLEM
        found[f"Problem{status}"] = said
    return found
