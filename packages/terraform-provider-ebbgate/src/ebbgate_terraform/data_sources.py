"""The data sources: limits as they are, with what is going on at them at this moment."""

from typing import Any, Final

from tf.iface import Config, DataSource, ReadDataContext, State
from tf.schema import Attribute, Schema
from tf.types import Bool, String, TfType
from tf.utils import Diagnostics

from ebbgate_terraform.problems import Problem
from ebbgate_terraform.servicer import Values
from ebbgate_terraform.values import EXACT, Objects

_FIELDS: Final[dict[str, tuple[TfType, str]]] = {
    "id": (String(), "Its id."),
    "name": (String(), "Its name."),
    "limit": (EXACT, "Slots."),
    "slot_decay_per_second": (EXACT, "Spent slots that come back each second."),
    "active": (Bool(), "Whether it is enforced."),
    "description": (String(), "For people."),
    "active_slots": (EXACT, "Slots that are occupied: held, and spent rounded up."),
    "held_slots": (EXACT, "Slots that are held."),
    "spent_slots": (EXACT, "Spent slots that have not come back yet."),
    "waiting": (EXACT, "How many wait."),
    "waiting_since": (String(), "When who waits longest asked, RFC 3339; null: nobody waits."),
    "granted": (EXACT, "How many got in since the server began to count."),
    "created": (String(), "When it was created, RFC 3339."),
    "updated": (String(), "When it was last changed, RFC 3339."),
    "cool_down_until": (String(), "Nobody is let in before, RFC 3339; null: it does not cool down."),
    "cool_down_why": (String(), "Why."),
}


class LimitData(DataSource):
    """One limit, by name or id."""

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
        asked = {"id", "name"}
        return Schema(
            version=1,
            description="A limit, and what is going on at it at this moment.",
            attributes=[
                Attribute(name, kind, optional=name in asked, computed=True, description=what)
                for name, (kind, what) in _FIELDS.items()
            ],
        )

    def validate(self, diags: Diagnostics, type_name: str, config: Values) -> None:
        """Refuse what names no limit, or two."""
        del type_name
        if (config["name"] is None) is (config["id"] is None):
            diags.add_error("Which limit?", "give name or id, one of them", path=["name"])

    def read(self, ctx: ReadDataContext, config: Config) -> State | None:
        """Read the limit."""
        asked = "id" if config["name"] is None else "name"
        try:
            shown = self._provider.rest.read(config[asked])
        except Problem as problem:
            ctx.diagnostics.add_error(problem.summary, problem.detail, path=[asked])
            return None
        found = {name: kind.encode(shown.get(name)) for name, (kind, _) in _FIELDS.items()}
        return {**found, asked: config[asked]}


class LimitsData(DataSource):
    """All limits, or those whose name begins so."""

    def __init__(self, provider: Any) -> None:  # noqa: ANN401
        """Use the provider's server."""
        self._provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Return its type, without the provider's prefix."""
        return "limits"

    @classmethod
    def get_schema(cls) -> Schema:
        """Return its attributes."""
        return Schema(
            version=1,
            description="Limits by name, and what is going on at them at this moment.",
            attributes=[
                Attribute("prefix", String(), optional=True, description="Only limits whose name begins so."),
                Attribute(
                    "limits", Objects({name: kind for name, (kind, _) in _FIELDS.items()}), computed=True,
                    description="By name, each as `ebbgate_limit` shows it.",
                ),
            ],
        )  # fmt: skip

    def validate(self, diags: Diagnostics, type_name: str, config: Values) -> None:
        """Find nothing wrong: any text may be a prefix."""

    def read(self, ctx: ReadDataContext, config: Config) -> State | None:
        """Read the limits."""
        try:
            shown = list(self._provider.rest.list(config["prefix"] or ""))
        except Problem as problem:
            ctx.diagnostics.add_error(problem.summary, problem.detail)
            return None
        kind = self.get_schema().attributes[1].type
        found = [{name: entry.get(name) for name in _FIELDS} for entry in shown]
        return {"prefix": config["prefix"], "limits": kind.encode(found)}
