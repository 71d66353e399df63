"""The resource `ebbgate_limit`: what a limit is, never what is going on at it."""

from typing import Any, Final

from tf.iface import (
    CreateContext,
    DeleteContext,
    ImportContext,
    ReadContext,
    Resource,
    State,
    UpdateContext,
)
from tf.schema import Attribute, Schema
from tf.types import Bool, String, Unknown
from tf.utils import Diagnostics

from ebbgate_terraform.problems import Problem, attribute_of
from ebbgate_terraform.servicer import Values
from ebbgate_terraform.values import EXACT

_SHOWN: Final = (
    "id",
    "name",
    "limit",
    "slot_decay_per_second",
    "active",
    "description",
    "created",
    "updated",
)
"""What the server knows of a limit; the rest is Terraform's own."""


class LimitResource(Resource):
    """One limit of the server."""

    def __init__(self, provider: Any) -> None:  # noqa: ANN401 - the provider, which imports this module
        """Use the provider's server."""
        self._provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Return its type, without the provider's prefix."""
        return "limit"

    @classmethod
    def get_schema(cls) -> Schema:
        """Return its attributes."""
        return Schema(
            version=1,
            description="A limit. Holders, waiters and spent slots are never touched by a change.",
            attributes=[
                Attribute("id", String(), computed=True, description="Its id, which stays when it is renamed."),
                Attribute(
                    "name", String(), required=True,
                    description="1 to 200 characters, none of `/ \\ % & > < ? #`. A limit is renamed in place.",
                ),
                Attribute("limit", EXACT, required=True, description="Slots; 0 lets nobody in."),
                Attribute(
                    "slot_decay_per_second", EXACT, optional=True, computed=True, default=0,
                    description="Spent slots that come back each second, for a rate limit; or give `rate`. Default 0.",
                ),
                Attribute(
                    "rate", String(), optional=True,
                    description="The same as people write it: `5/s`, `100/min`, `60/hour`, `1000/day`.",
                ),
                Attribute(
                    "active", Bool(), optional=True, computed=True, default=True,
                    description="Whether it is enforced. Default true.",
                ),
                Attribute(
                    "description", String(), optional=True, computed=True, default="", description="For people.",
                ),
                Attribute(
                    "force_destroy", Bool(), optional=True, computed=True, default=False,
                    description="Whether it is deleted even if it has holders or waiters. Apply it before you "
                    "destroy. Default false.",
                ),
                Attribute("created", String(), computed=True, description="When it was created, RFC 3339."),
                Attribute("updated", String(), computed=True, description="When it was last changed, RFC 3339."),
            ],
        )  # fmt: skip

    def validate(self, diags: Diagnostics, type_name: str, config: Values) -> None:
        """Refuse what could not even be asked of the server."""
        del type_name
        for name in ("name", "limit"):
            if config[name] is None:  # Terraform itself asks only for what is not written
                diags.add_error("Something is missing", f"{name} must be given, and is null", path=[name])
        if config["rate"] is not None and config["slot_decay_per_second"] is not None:
            diags.add_error(
                "Two ways to say the same",
                "rate and slot_decay_per_second exclude each other; give one",
                path=["rate"],
            )

    def amend(self, config: Values, prior: Values | None, planned: Values) -> None:
        """Plan the decay, which follows from the rate, and that `updated` may change."""
        if config["rate"] is not None and config["slot_decay_per_second"] is None:
            same = prior is not None and config["rate"] is not Unknown and prior["rate"] == config["rate"]
            planned["slot_decay_per_second"] = (
                prior["slot_decay_per_second"] if same and prior is not None else Unknown
            )
        # Whatever differs: an update tells the server all, which also mends what was changed since the plan.
        if prior is not None and planned != prior:
            planned["updated"] = Unknown

    # --- what is done

    def create(self, ctx: CreateContext, planned: State) -> State | None:
        """Create the limit."""
        try:
            return _state(self._provider.rest.create(_body(planned)), planned)
        except Problem as problem:
            _tell(ctx.diagnostics, problem, planned)
            return None

    def read(self, ctx: ReadContext, current: State) -> State | None:
        """Read the limit; None if it is not there any more."""
        try:
            shown = self._provider.rest.read(current["id"])
        except Problem as problem:
            if problem.code == "limit_not_found":
                return None
            _tell(ctx.diagnostics, problem, current)
            return current
        state = _state(shown, current)
        if not EXACT.semantically_equal(state["slot_decay_per_second"], current["slot_decay_per_second"]):
            state["rate"] = None  # it is not what the state's rate means any more, so a plan shows it
        return state

    def update(self, ctx: UpdateContext, current: State, planned: State) -> State | None:
        """Change the limit."""
        try:
            return _state(self._provider.rest.change(current["id"], _body(planned)), planned)
        except Problem as problem:
            _tell(ctx.diagnostics, problem, planned)
            return current

    def delete(self, ctx: DeleteContext, current: State) -> None:
        """Delete the limit."""
        try:
            self._provider.rest.delete(current["id"], force=bool(current["force_destroy"]))
        except Problem as problem:
            if problem.code != "limit_not_found":
                _tell(ctx.diagnostics, problem, current)

    def import_(self, ctx: ImportContext, id: str) -> State | None:  # noqa: A002 - the name in tf
        """Return a limit that is there, by its name or its id."""
        try:
            return _state(self._provider.rest.read(id), {"rate": None, "force_destroy": False})
        except Problem as problem:
            _tell(ctx.diagnostics, problem, {"name": id})
            return None


def _body(planned: State) -> dict[str, object]:
    """Return what the server is told: all of it, so that a plan holds whatever happened since."""
    decay = "slot_decay_per_second" if planned["rate"] is None else "rate"
    return {name: planned[name] for name in ("name", "limit", decay, "active", "description")}


def _state(shown: dict[str, Any], own: State) -> State:
    """Return a limit as Terraform keeps it."""
    state = {name: shown[name] for name in _SHOWN}
    return {**state, "rate": own["rate"], "force_destroy": own["force_destroy"]}


def _tell(diagnostics: Diagnostics, problem: Problem, limit: State) -> None:
    """Tell of a problem, at the attribute that it is about."""
    attribute, detail = attribute_of(problem), problem.detail
    name = limit["name"]
    match problem.code:
        case "limit_exists":
            detail += f"; to manage it here, import it: terraform import ebbgate_limit.LABEL {name!r}"
        case "limit_in_use":
            detail += "; or set force_destroy = true, apply, then destroy"
        case "limit_not_found":
            detail += "; it may have been deleted since the plan: plan again"
    if attribute == "slot_decay_per_second" and limit.get("rate") is not None:
        attribute = "rate"
    path = [attribute] if attribute else None
    diagnostics.add_error(f"{problem.summary}: {name}", detail, path=path)
