"""What PrefectHQ's Terraform provider sends, and what Terraform checks.

The provider is written in Go and is not built here. `Theirs` sends the same requests in the same order, accepts the
same statuses, and fails where Terraform fails: what is read after a write must be what was planned.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tests.prefect.contract import LIMITS
from tests.prefect.support import Caller


@dataclass(frozen=True)
class Resource:
    """The resource's arguments, with the provider's own defaults."""

    name: str
    limit: int
    active: bool = True
    active_slots: int = 0
    slot_decay_per_second: float = 0


class Theirs:
    """The provider and its state of one resource."""

    def __init__(self, caller: Caller, headers: Mapping[str, str] | None = None) -> None:
        """Know nothing yet."""
        self.caller = caller
        self.headers = {"User-Agent": "Go-http-client/1.1", "Accept": "application/json", **(headers or {})}
        self.id = ""

    def create(self, planned: Resource) -> None:
        made = self.caller.ask("POST", f"{LIMITS}/", asdict(planned), **self.headers)
        assert made.status == 201, made.body
        self.id = made.body["id"]
        assert made.body["created"]
        assert made.body["updated"]
        self._is_as_planned(planned, made.body)

    def read(self) -> Resource | None:
        """Refresh; None: it is dropped from the state."""
        shown = self.caller.ask("GET", f"{LIMITS}/{self.id}", **self.headers)
        if shown.status == 404:
            return None
        assert shown.status == 200, shown.body
        return Resource(**{name: shown.body[name] for name in Resource.__dataclass_fields__})

    def plan(self, configured: Resource) -> bool:
        """Tell whether something is to be changed."""
        return self.read() != configured

    def update(self, planned: Resource) -> None:
        assert self.caller.ask("PATCH", f"{LIMITS}/{self.id}", asdict(planned), **self.headers).status == 204
        shown = self.caller.ask("GET", f"{LIMITS}/{self.id}", **self.headers)
        assert shown.status == 200
        self._is_as_planned(planned, shown.body)

    def delete(self) -> None:
        assert self.caller.ask("DELETE", f"{LIMITS}/{self.id}", **self.headers).status in {204, 404}

    def _is_as_planned(self, planned: Resource, shown: Mapping[str, object]) -> None:
        """Else Terraform says: Provider produced inconsistent result after apply."""
        assert {name: shown[name] for name in asdict(planned)} == asdict(planned)
