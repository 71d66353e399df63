"""Terraform's calls, answered by `tf`, with what it needs in version 1.2.0 to answer them rightly.

- It puts defaults in only when something is created: planning is done here.
- It reads the state's decimals as doubles: they are read as text.
- What a method raises ends as "rpc error": it is turned into a diagnostic.
- Digits of decimals: see `values.Exact`.

`tests` prove each against the real Terraform; what tf mends may go.
"""

import json
import sys
import traceback
from typing import Any, Final, Protocol

import grpc
from tf.gen import tfplugin_pb2 as pb
from tf.provider import ProviderServicer
from tf.schema import Attribute
from tf.types import Unknown
from tf.utils import Diagnostics, read_dynamic_value, to_dynamic_value

Values = dict[str, Any]
"""The attributes of a resource as Terraform sends them, null as None."""

_ISSUES: Final = "https://github.com/ebbgate/ebbgate/issues"


class Planned(Protocol):
    """A resource that has a say in what is planned of it."""

    def amend(self, config: Values, prior: Values | None, planned: Values) -> None:
        """Correct what is planned, in place, where the general rules do not suffice."""


class Servicer(ProviderServicer):
    """Answers Terraform."""

    def PlanResourceChange(  # noqa: N802 - the protocol's name
        self, request: pb.PlanResourceChange.Request, context: grpc.ServicerContext
    ) -> pb.PlanResourceChange.Response:
        """Tell what a resource will be once the configuration is applied."""
        del context
        response = pb.PlanResourceChange.Response
        proposed = read_dynamic_value(request.proposed_new_state)
        if proposed is None:  # it will be destroyed
            return response(planned_state=request.proposed_new_state)
        prior, config = read_dynamic_value(request.prior_state), read_dynamic_value(request.config)
        attributes: dict[str, Attribute] = self._get_res_attrs(request.type_name)
        planned = {
            name: _planned(attribute, config[name], None if prior is None else prior[name], prior is None)
            for name, attribute in attributes.items()
        }
        resource: Planned = self.app.new_resource(self._get_res_cls(request.type_name))
        resource.amend(config, prior, planned)
        return response(planned_state=to_dynamic_value(planned))

    def UpgradeResourceState(  # noqa: N802
        self, request: pb.UpgradeResourceState.Request, context: grpc.ServicerContext
    ) -> pb.UpgradeResourceState.Response:
        """Return a stored state as this version understands it, with every digit."""
        del context
        diagnostics = Diagnostics()
        schema = self._get_res_cls(request.type_name).get_schema()
        if request.version != schema.version:
            diagnostics.add_error(
                "The state was written by another version of the provider",
                f"it has version {request.version} of {request.type_name}, this provider knows {schema.version}; "
                "install the newest: uv tool upgrade ebbgate-terraform && ebbgate-terraform install",
            )
            return pb.UpgradeResourceState.Response(diagnostics=diagnostics.to_pb())
        stored = json.loads(request.raw_state.json, parse_float=str)
        state = {attribute.name: stored.get(attribute.name) for attribute in schema.attributes}
        return pb.UpgradeResourceState.Response(upgraded_state=to_dynamic_value(state))


def _planned(attribute: Attribute, config: Any, prior: Any, is_new: bool) -> Any:  # noqa: ANN401 - values of Terraform's
    """Return what one attribute will be."""
    if config is not None:
        kind = attribute.type
        same = prior is not None and config is not Unknown and kind.semantically_equal(
            kind.decode(prior), kind.decode(config)
        )  # fmt: skip
        return prior if same else config
    if not attribute.computed:
        return None
    if attribute.default is not Unknown:
        return attribute.type.encode(attribute.default)
    return Unknown if is_new else prior


# --- what is raised


def _told(name: str) -> Any:  # noqa: ANN401 - a method of the protocol
    """Return a method that answers with a diagnostic where the one of this name raises."""
    method = getattr(Servicer, name)
    response = getattr(pb, name).Response

    def call(self: Servicer, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        try:
            return method(self, request, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, people read a sentence
            traceback.print_exc(file=sys.stderr)  # Terraform shows it with TF_LOG=debug alone
            diagnostics = Diagnostics().add_error(
                "The provider has a defect",
                f"unexpected {type(error).__name__} in {name}: {error}; nothing is known of what was done. "
                f"Please report it at {_ISSUES} with the output of TF_LOG=debug",
            )
            return response(diagnostics=diagnostics.to_pb())

    call.__name__ = name
    return call


for _name in (
    "ApplyResourceChange", "ConfigureProvider", "GetProviderSchema", "ImportResourceState", "PlanResourceChange",
    "ReadDataSource", "ReadResource", "UpgradeResourceState", "ValidateDataResourceConfig", "ValidateProviderConfig",
    "ValidateResourceConfig",
):  # fmt: skip
    setattr(Servicer, _name, _told(_name))
