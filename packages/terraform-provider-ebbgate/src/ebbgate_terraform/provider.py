"""The provider: which server, and with which key."""

import os
from typing import Any, Final

from tf.iface import Config, DataSource, Resource
from tf.iface import Provider as TfProvider
from tf.schema import Attribute, Schema
from tf.types import String, Unknown
from tf.utils import Diagnostics

from ebbgate_terraform.data_sources import LimitData, LimitsData
from ebbgate_terraform.install import SOURCE
from ebbgate_terraform.limit import LimitResource
from ebbgate_terraform.problems import Problem
from ebbgate_terraform.rest import NO_URL, NOT_AUTHORIZED, Rest

_ATTRIBUTES: Final = {
    NO_URL: "url", "server_unavailable": "url", "foreign": "url", NOT_AUTHORIZED: "api_key", "no_ca_file": "ca_file",
}  # fmt: skip


class Provider(TfProvider):
    """Limits of one ebbgate server."""

    def __init__(self) -> None:
        """Know no server yet: Terraform tells."""
        self._rest: Rest | None = None

    @property
    def rest(self) -> Rest:
        """The server.

        Raises:
            Problem: its address is not known yet.
        """
        if self._rest is None:
            raise Problem(
                NO_URL, "The server's address is not known yet",
                "the provider's url or api_key depends on what is only known after apply; "
                "apply that first: terraform apply -target=...",
            )  # fmt: skip
        return self._rest

    def full_name(self) -> str:
        """Return its address among providers."""
        return SOURCE

    def get_model_prefix(self) -> str:
        """Return how the names of its types begin."""
        return "ebbgate_"

    def get_provider_schema(self, diags: Diagnostics) -> Schema:
        """Return what can be configured."""
        del diags
        return Schema(
            version=1,
            attributes=[
                Attribute(
                    "url", String(), optional=True,
                    description="The server, such as `ebbgate://host:4220`, or `ebbgates://host` for TLS. "
                    "Unset: `EBBGATE_URL`.",
                ),
                Attribute(
                    "api_key", String(), optional=True, sensitive=True,
                    description="Authenticates with the server. Unset: `EBBGATE_API_KEY`.",
                ),
                Attribute(
                    "ca_file", String(), optional=True,
                    description="PEM file of the authority that signed the server's certificate, if it is not a "
                    "public one. Unset: `EBBGATE_CA_FILE`.",
                ),
            ],
        )  # fmt: skip

    def validate_config(self, diags: Diagnostics, config: Config) -> None:
        """Find nothing wrong here: the server's address is tried when it is needed."""

    def configure_provider(self, diags: Diagnostics, config: Config) -> None:
        """Find the server and see that it lets this key in: told once here, not for every limit."""
        values = {name: _given(config, name) for name in ("url", "api_key", "ca_file")}
        if any(value is Unknown for value in values.values()):
            return
        try:
            if not values["url"]:
                raise Problem(
                    NO_URL, "The server's address is not known",
                    "set url, or EBBGATE_URL, to a server such as ebbgate://host:4220",
                )  # fmt: skip
            rest = Rest(**values)
            rest.check()
        except Problem as problem:
            attribute = _ATTRIBUTES.get(problem.code)
            diags.add_error(problem.summary, problem.detail, path=[attribute] if attribute else None)
        else:
            self._rest = rest

    def get_data_sources(self) -> list[type[DataSource]]:
        """Return what can be looked up."""
        return [LimitData, LimitsData]

    def get_resources(self) -> list[type[Resource]]:
        """Return what can be managed."""
        return [LimitResource]


def _given(config: Config, name: str) -> Any:  # noqa: ANN401 - text, or unknown
    value = config.get(name)
    return value if value is not None else os.environ.get(f"EBBGATE_{name.upper()}", "")
