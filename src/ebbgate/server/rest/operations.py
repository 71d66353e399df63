"""What each route says of itself, for the OpenAPI document."""

from typing import Any, Final

from ebbgate.server.rest.answers import LeaseAnswer, LeasePage, LimitPage, Renewals, Status
from ebbgate.server.rest.describing import Operation, Parameter, Reply
from ebbgate.server.rest.requests import (
    ID_SCHEMA,
    NAME_SCHEMA,
    PAGE_SIZE,
    WAIT_MAX_SECONDS,
    AcquireBody,
    ChangeBody,
    CoolDownBody,
    CreateBody,
    RenewBody,
    ReplaceBody,
    SpendBody,
)
from ebbgate.wire.questions import PAGE_MAX, STATES
from ebbgate.wire.shapes import LimitInfo

_ID: Final = "5ff5ac83-5f33-4b1f-9fb1-cc9e6ba45f30"
LIMIT_ID: Final = "0b6a1f1e-4a52-4b0e-9d5c-55b4f4d3c1b7"
_AT: Final = "2026-01-01T12:00:00Z"

_LIMIT: Final[dict[str, Any]] = {
    "id": LIMIT_ID, "name": "database", "limit": 5, "slot_decay_per_second": 0.0, "active": True,
    "description": "", "active_slots": 1, "held_slots": 1, "spent_slots": 0.0, "waiting": 0,
    "created": _AT, "updated": _AT,
}  # fmt: skip
_LEASE: Final[dict[str, Any]] = {
    "id": _ID, "state": "held", "kind": "hold", "limits": [{"name": "database", "slots": 1}],
    "holder": {"session": "rest", "host": "", "pid": 0, "labels": {"job": "report"}, "away_since": None},
    "priority": 0, "arrival": 1, "asked": _AT, "granted": _AT, "expires": "2026-01-01T12:05:00Z",
    "lease_duration_seconds": 300.0, "fencing_token": 1767268800000000, "ended": None, "why": "",
    "position": None, "lacks": None, "blocked_by": None, "estimate_seconds": None,
}  # fmt: skip
_HELD: Final = {**_LEASE, "unknown": [], "suggestion": "", "retry_after_seconds": None}
_WAITING: Final = {
    **_HELD, "state": "waiting", "granted": None, "expires": None, "fencing_token": None, "position": 1,
    "lacks": ["database"], "blocked_by": ["0b0e6a3c-6f0c-4a3b-8e54-33a1f3a3d1f2"], "retry_after_seconds": 1.0,
}  # fmt: skip
_SPENT: Final = {
    **_HELD, "state": "ended", "kind": "spend", "expires": None, "ended": _AT, "why": "spent",
}  # fmt: skip

_SIZE: Final = Parameter(
    "page_size",
    "query",
    {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_SIZE},
    "How many entries at most.",
)
_CURSOR: Final = Parameter("cursor", "query", {"type": "string"}, "The `next_cursor` of the page before.")
NAME_OR_ID: Final = Parameter(
    "name_or_id",
    "path",
    {"anyOf": [NAME_SCHEMA, ID_SCHEMA]},
    "The name of the limit, or its id.",
    "database",
)
_LEASE_ID: Final = Parameter("id", "path", ID_SCHEMA, "The id of the lease.", _ID)
_WAIT: Final = Parameter(
    "wait_seconds",
    "query",
    {"type": "number", "minimum": 0, "maximum": WAIT_MAX_SECONDS, "default": 0},
    "How long this request may be held open.",
)
_FORCE: Final = Parameter(
    "force", "query", {"type": "boolean", "default": False}, "Delete it though it has holders or waiters."
)
_REPEATED: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "Exactly this request sent again within a minute changes nothing more.",
)

_ONE_LIMIT: Final = Reply("The limit as it is now.", LimitInfo, _LIMIT)
_NEW_LIMIT: Final = Reply(
    "The limit that was created.", LimitInfo, {**_LIMIT, "active_slots": 0, "held_slots": 0}, ("Location",),
    ("readLimit", "changeLimit", "deleteLimit", "acquire"),
)  # fmt: skip
_DONE: Final = Reply("Done.")

LIST_LIMITS: Final = Operation(
    id="listLimits",
    summary="List limits by name",
    parameters=(
        Parameter("name", "query", {"type": "string"}, "Only the limit of exactly this name."),
        Parameter("prefix", "query", {"type": "string"}, "Only limits whose name begins so."),
        _SIZE,
        _CURSOR,
    ),
    replies={
        200: Reply("A page of limits.", LimitPage, {"items": [_LIMIT], "next_cursor": None}),
    },
    problems=(422, 503),
)
CREATE_LIMIT: Final = Operation(
    id="createLimit",
    summary="Create a limit",
    parameters=(_REPEATED,),
    body=CreateBody,
    body_example={"name": "database", "limit": 5},
    replies={201: _NEW_LIMIT},
    problems=(404, 409, 503),
)
READ_LIMIT: Final = Operation(
    id="readLimit",
    summary="Read a limit, and what is going on at it",
    parameters=(NAME_OR_ID,),
    replies={200: _ONE_LIMIT},
    problems=(404, 422, 503),
)
REPLACE_LIMIT: Final = Operation(
    id="replaceLimit",
    summary="Create a limit of this name, or make the existing one like this",
    description="Holders, waiters and what is spent stay. An id must be that of a limit that exists.",
    parameters=(NAME_OR_ID, _REPEATED),
    body=ReplaceBody,
    body_example={"limit": 5},
    replies={200: _ONE_LIMIT, 201: _NEW_LIMIT},
    problems=(404, 409, 503),
)
CHANGE_LIMIT: Final = Operation(
    id="changeLimit",
    summary="Change what is given of a limit",
    description="Holders, waiters and what is spent stay.",
    parameters=(NAME_OR_ID, _REPEATED),
    body=ChangeBody,
    body_example={"limit": 10},
    media_types=("application/json", "application/merge-patch+json"),
    replies={200: _ONE_LIMIT},
    problems=(404, 409, 503),
)
DELETE_LIMIT: Final = Operation(
    id="deleteLimit",
    summary="Delete a limit",
    description="With force, its waiters go on without it, and its leases forget it.",
    parameters=(NAME_OR_ID, _FORCE),
    replies={204: _DONE},
    problems=(404, 409, 422, 503),
)
COOL_DOWN: Final = Operation(
    id="coolDownLimit",
    summary="Let nobody in for a while, or with 0 seconds let people in again",
    description="Who holds slots keeps them, who waits its place. A cool-down that lasts longer already stays.",
    parameters=(NAME_OR_ID,),
    body=CoolDownBody,
    body_example={"duration_seconds": 30, "why": "429 from the vendor"},
    replies={200: _ONE_LIMIT},
    problems=(404, 503),
)

_LINKS: Final = ("read", "renew", "release", "revoke")
_QUEUED: Final = Reply(
    "It waits; ask again after so many seconds, within 30, or its place is lost.",
    LeaseAnswer, _WAITING, ("Retry-After",), ("read", "release"),
)  # fmt: skip

ACQUIRE: Final = Operation(
    id="acquireLease",
    summary="Take slots of one or several limits, all or none, or a place in the queue",
    description="The same id asked again answers with that lease as it is.",
    body=AcquireBody,
    body_example={
        "limits": [{"name": "database", "slots": 1}],
        "wait_seconds": 1,
        "labels": {"job": "report"},
    },
    replies={201: Reply("The slots are held.", LeaseAnswer, _HELD, (), _LINKS), 202: _QUEUED},
    problems=(404, 409, 503),
)
SPEND: Final = Operation(
    id="spend",
    summary="Spend slots that only time brings back, or take a place in the queue for that",
    body=SpendBody,
    body_example={"limits": [{"name": "mails", "slots": 1}], "wait_seconds": 1},
    replies={201: Reply("The slots are spent.", LeaseAnswer, _SPENT, (), ("read",)), 202: _QUEUED},
    problems=(404, 409, 503),
)
LIST_LEASES: Final = Operation(
    id="listLeases",
    summary="List leases: held ones, then waiting ones in their order",
    parameters=(
        Parameter("limit", "query", {"type": "string"}, "Only those of the limit of this name or id."),
        Parameter("state", "query", {"enum": list(STATES)}, "Only those; `ended`: those that ended last."),
        Parameter("holder", "query", {"type": "string"}, "Only those of this host, session or label."),
        _SIZE,
        _CURSOR,
    ),
    replies={
        200: Reply("A page of leases.", LeasePage, {"items": [_LEASE], "next_cursor": None}),
    },
    problems=(404, 422, 503),
)
READ_LEASE: Final = Operation(
    id="readLease",
    summary="Read a lease; who waits keeps its place so, and fetches its grant",
    parameters=(_LEASE_ID, _WAIT),
    replies={
        200: Reply("The lease is held, or has ended.", LeaseAnswer, _HELD),
        202: _QUEUED,
    },
    problems=(404, 422, 503),
)
RENEW: Final = Operation(
    id="renewLeases",
    summary="Restart the countdown of leases",
    body=RenewBody,
    body_example={"ids": [_ID], "lease_duration_seconds": 300},
    replies={
        200: Reply(
            "What became of each.",
            Renewals,
            {
                "items": [
                    {
                        "id": _ID, "result": "held", "fencing_token": 1767268800000000,
                        "expires": "2026-01-01T12:10:00Z", "why": "", "when": None,
                    }
                ]
            },
        ),
    },
    problems=(503,),
)  # fmt: skip
RELEASE: Final = Operation(
    id="releaseLease",
    summary="Give a lease's slots back, or leave the queue",
    description="Repeating it changes nothing. An id that was never used can then not be used any more.",
    parameters=(_LEASE_ID,),
    replies={204: _DONE},
    problems=(422, 503),
)
REVOKE: Final = Operation(
    id="revokeLease",
    summary="Take a lease away from its holder, or a waiter out of the queue",
    parameters=(_LEASE_ID,),
    replies={204: _DONE},
    problems=(404, 422, 503),
)
EVENTS: Final = Operation(
    id="watch",
    summary="Watch what happens, as server-sent events",
    description="First `snapshot`, then `change` up to four times a second, `goodbye` when the server stops.",
    parameters=(
        Parameter("limit", "query", {"type": "string"}, "Only what concerns the limit of this name or id."),
        Parameter(
            "views",
            "query",
            {"type": "string"},
            "A JSON array of views: only these are told, as pages need it.",
        ),
        Parameter("Last-Event-ID", "header", {"type": "string"}, "Where the viewer was."),
    ),
    replies={200: Reply("Events.", str, media_type="text/event-stream")},
    problems=(404, 422, 503),
)
LIVEZ: Final = Operation(
    id="livez",
    summary="Whether the server runs",
    replies={200: Reply("It does.", Status, {"status": "alive"})},
    is_open=True,
)
READYZ: Final = Operation(
    id="readyz",
    summary="Whether slots can be granted here",
    replies={200: Reply("They can.", Status, {"status": "ready"})},
    problems=(503,),
    is_open=True,
)
OPENAPI: Final = Operation(
    id="openapi",
    summary="This document",
    replies={200: Reply("The document.", dict[str, Any])},
)
