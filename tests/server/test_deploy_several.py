"""The files for several servers, on Kubernetes and with compose: their parts agree with each other and the server.

Known limit: no cluster and no container is started here.
"""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbgate import Client
from ebbgate.server.http import HEALTH_PATHS
from ebbgate.server.options import Options
from ebbgate.settings import DEFAULT_PORT
from tests.cli.support import wait_until
from tests.server.asking import KEY_TEXT, ask
from tests.server.certificates import make_certificates
from tests.server.processes import Served, started
from tests.stores.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose-several.yaml").read_text())
NGINX = (DEPLOY / "nginx-several.conf").read_text()
IMAGE = (DEPLOY / "Dockerfile").read_text()


def manifests() -> dict[str, dict[str, Any]]:
    """Everything but the kustomization, by kind."""
    found = {}
    for path in KUBERNETES.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] != "Kustomization":
                found[document["kind"]] = document
    return found


KINDS = manifests()
DEPLOYMENT: dict[str, Any] = KINDS["Deployment"]["spec"]
POD: dict[str, Any] = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {entry["name"]: entry.get("value") for entry in CONTAINER["env"]}
PROBES: list[dict[str, Any]] = [CONTAINER[f"{what}Probe"] for what in ("liveness", "readiness", "startup")]


# --- Kubernetes


def test_the_kustomization_names_every_file_and_no_other() -> None:
    text = (KUBERNETES / "kustomization.yaml").read_text()
    taken = yaml.safe_load(text)["resources"]
    offered = re.findall(r"^  # - (\S+\.yaml)", text, re.MULTILINE)
    assert sorted([*taken, *offered]) == sorted(
        path.name for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    assert {"deployment.yaml", "service.yaml", "namespace.yaml", "disruption.yaml"} <= set(taken)


def test_all_that_selects_pods_selects_those_of_the_deployment() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    budget, service = KINDS["PodDisruptionBudget"]["spec"], KINDS["Service"]
    assert DEPLOYMENT["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["selector"]["matchLabels"] == labels
    assert KINDS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert all(
        spread["labelSelector"]["matchLabels"] == labels for spread in POD["topologySpreadConstraints"]
    )
    assert KINDS["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]


def test_every_port_is_that_of_the_server() -> None:
    (port,) = CONTAINER["ports"]
    (offered,) = KINDS["Service"]["spec"]["ports"]
    assert port["containerPort"] == offered["port"] == int(str(ENVIRONMENT["EBBGATE_PORT"])) == DEFAULT_PORT
    assert offered["targetPort"] == port["name"]
    assert [probe["httpGet"]["port"] for probe in PROBES] == [port["name"]] * 3
    assert [endpoint["port"] for endpoint in KINDS["ServiceMonitor"]["spec"]["endpoints"]] == [
        offered["name"]
    ]
    allowed = [rule["ports"] for rule in KINDS["NetworkPolicy"]["spec"]["ingress"]]
    assert allowed == [[{"port": DEFAULT_PORT, "protocol": "TCP"}]]
    assert POD["enableServiceLinks"] is False, "they would set EBBGATE_PORT to tcp://..."


def test_probes_ask_what_a_server_answers_without_a_key() -> None:
    paths = [probe["httpGet"]["path"] for probe in PROBES]
    assert paths == ["/livez", "/readyz", "/livez"]
    assert set(paths) <= HEALTH_PATHS
    for probe in PROBES:
        assert probe["httpGet"]["scheme"] == "HTTPS"
        assert probe["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_a_pod_has_time_to_drain_and_no_rights() -> None:
    before = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(str(ENVIRONMENT["EBBGATE_DRAIN_SECONDS"]))
    assert POD["terminationGracePeriodSeconds"] > before + drain + 5
    user = re.search(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)
    assert user is not None
    assert (POD["securityContext"]["runAsUser"], POD["securityContext"]["runAsGroup"]) == (
        int(user[1]), int(user[2]),
    )  # fmt: skip
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "cpu" not in CONTAINER["resources"]["limits"]


def test_at_least_as_many_servers_as_asked_for_run_during_a_roll_out_and_two_while_nodes_are_drained() -> (
    None
):
    assert DEPLOYMENT["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert DEPLOYMENT["replicas"] - KINDS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 2


def test_every_secret_stands_where_the_server_looks_for_it() -> None:
    mounted = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    for variable, name in (
        ("EBBGATE_API_KEYS_FILE", "api-keys"), ("EBBGATE_TLS_CERT", "tls.crt"), ("EBBGATE_TLS_KEY", "tls.key"),
    ):  # fmt: skip
        folder, _, file = str(ENVIRONMENT[variable]).rpartition("/")
        assert file == name
        assert mounted[folder]["readOnly"] is True
        assert "secret" in volumes[mounted[folder]["name"]]
    assert ENVIRONMENT["EBBGATE_STORE"] is None, "it holds a password"


@pytest.mark.skipif(
    not shutil.which("kubectl"),
    reason="NOT TESTED WITH KUBECTL: it is not here, and needs no cluster for this",
)
def test_kubectl_understands_the_kustomization() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True, timeout=60
    )
    made = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert set(made) == {"Namespace", "Deployment", "Service", "PodDisruptionBudget"}
    assert {document["metadata"].get("namespace") for document in made.values()} == {"ebbgate", None}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_server_with_the_settings_of_the_pod_answers_probes_clients_and_prometheus(
    tmp_path: Path,
) -> None:
    (certificates := tmp_path / "certificates").mkdir()
    make_certificates(certificates)
    (tmp_path / "api-keys").write_text(f"ci={KEY_TEXT}\n")
    ours = {
        "EBBGATE_STORE": f"sqlite:///{tmp_path}/ebbgate.db",
        "EBBGATE_API_KEYS_FILE": str(tmp_path / "api-keys"),
        "EBBGATE_TLS_CERT": str(certificates / "one.pem"),
        "EBBGATE_TLS_KEY": str(certificates / "one.key"),
        "EBBGATE_ALLOWED_HOSTS": str(ENVIRONMENT["EBBGATE_ALLOWED_HOSTS"]).replace("$(POD_IP)", "10.1.2.3"),
    }
    set_there = {name: value for name, value in ENVIRONMENT.items() if value and name != "EBBGATE_PORT"}
    flags = CONTAINER["args"]
    assert flags[0] == "serve"
    with started(tmp_path, *flags[1:], environment={**set_there, **ours}) as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        context = ssl.create_default_context(cafile=certificates / "one.pem")
        for probe in PROBES:
            got = await ask(url, probe["httpGet"]["path"], host="localhost", context=context)
            assert got.status == 200
        monitor = KINDS["ServiceMonitor"]["spec"]["endpoints"][0]
        for name in ("10.1.2.3:4220", "ebbgate:4220", monitor["tlsConfig"]["serverName"]):
            key = f"Authorization: Bearer {KEY_TEXT}"
            got = await ask(url, monitor["path"], key, host=name, context=context)
            assert got.status == 200, name
        assert served.end() == 0


# --- compose


def servers() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in COMPOSE["services"].items() if service["image"] == "ebbgate"}


def test_compose_has_three_servers_on_one_store_behind_the_proxy_that_they_trust() -> None:
    assert len(servers()) == 3
    for server in servers().values():
        assert "ports" not in server, "only the proxy is reached from outside"
        assert server["environment"]["EBBGATE_STORE"].startswith("postgresql://ebbgate@postgres:5432/")
        proxy = COMPOSE["services"]["nginx"]["networks"]["inside"]["ipv4_address"]
        assert server["environment"]["EBBGATE_TRUSTED_PROXIES"] == proxy
        assert float(server["stop_grace_period"].rstrip("s")) > float(
            server["environment"]["EBBGATE_DRAIN_SECONDS"]
        )
        assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
        assert (ROOT / server["build"]["dockerfile"]).exists()
    assert set(re.findall(r"^    server (\S+):4220 ", NGINX, re.MULTILINE)) == set(servers())
    assert {"--extra server", "--extra postgres", "--extra redis"} <= set(
        re.findall(r"--extra \w+", IMAGE)
    ), "the image knows every store"


def test_compose_hands_every_secret_to_whoever_needs_it() -> None:
    used = {secret for service in COMPOSE["services"].values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    for service in COMPOSE["services"].values():
        named = set(re.findall(r"/run/secrets/([\w.-]+)", yaml.safe_dump(service.get("environment", {}))))
        assert named <= set(service.get("secrets", ()))
    assert set(re.findall(r"/run/secrets/([\w.-]+);", NGINX)) == set(COMPOSE["services"]["nginx"]["secrets"])
    head = (DEPLOY / "compose-several.yaml").read_text().partition("x-server:")[0]
    assert all(name in head for name in COMPOSE["secrets"]), "its top names every file that it needs"


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")


def write_nginx(folder: Path, certificates: Path, addresses: Mapping[str, int], port: int) -> None:
    """Write the configuration of compose with the files and addresses of a test."""
    text = NGINX.replace("/run/secrets/tls.pem", f"{certificates}/one.pem")
    text = text.replace("/run/secrets/tls.key", f"{certificates}/one.key")
    for name, server in addresses.items():
        text = text.replace(f"{name}:{DEFAULT_PORT}", f"127.0.0.1:{server}")
    text = text.replace(f"listen {DEFAULT_PORT} ssl", f"listen 127.0.0.1:{port} ssl")
    (folder / "site.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n"
    )


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def behind_nginx(folder: Path, certificates: Path, ports: list[int]) -> Iterator[int]:
    """Run nginx with the configuration of compose before servers on these ports; yield its own."""
    program = find_nginx()
    if program is None:
        pytest.skip("NOT TESTED BEHIND NGINX: nginx is not installed; first: sudo make setup-system")
    port = free_port()
    write_nginx(folder, certificates, dict(zip(sorted(servers()), ports, strict=True)), port)
    command = [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "nginx listens")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_three_servers_behind_nginx_are_one_address_that_outlives_each_of_them(
    tmp_path: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As compose starts them, one after the other killed and started again, as in a rolling upgrade gone wrong."""
    (certificates := tmp_path / "certificates").mkdir()
    make_certificates(certificates)
    (tmp_path / "api-keys").write_text(f"ci={KEY_TEXT}\n")
    environment = {
        **next(iter(servers().values()))["environment"],
        "EBBGATE_STORE": new_postgres(),
        "EBBGATE_ALLOWED_HOSTS": "ebbgate",
        "EBBGATE_API_KEYS_FILE": str(tmp_path / "api-keys"),
        "EBBGATE_TRUSTED_PROXIES": "127.0.0.1",
        "EBBGATE_HOST": "0.0.0.0",
    }
    monkeypatch.setenv("EBBGATE_CA_FILE", str(certificates / "one.pem"))
    with contextlib.ExitStack() as stack:

        def start(port: int = 0) -> Served:
            return stack.enter_context(started(tmp_path, "--port", str(port), environment=environment))

        running = [start() for _ in servers()]
        ports = [int(server.url.rpartition(":")[2]) for server in running]
        address = stack.enter_context(behind_nginx(tmp_path, certificates, ports))
        with Client(f"ebbgates://localhost:{address}", KEY_TEXT) as client:
            client.create_limit("database", 1)
            with client.concurrency("database") as lease:
                for which, port in enumerate(ports):
                    running[which].process.kill()
                    running[which].process.wait()
                    assert [held.id for held in client.list_leases("database", "held")] == [lease.id]
                    running[which] = start(port)
                assert not lease.lost
            assert client.read_limit("database").held_slots == 0


def test_what_is_promised_about_draining_is_the_server_s_default() -> None:
    drain = Options(store="memory://").drain_seconds
    assert float(str(ENVIRONMENT["EBBGATE_DRAIN_SECONDS"])) == drain
    assert {float(server["environment"]["EBBGATE_DRAIN_SECONDS"]) for server in servers().values()} == {drain}
