"""The plugin's side of the talk with Terraform: a server on a private Unix socket, for as long as Terraform lives.

tf has one too. This one lets calls end that run when somebody presses Ctrl-C, so that a limit that was just made
gets into the state; it keeps no key on the disk; and it ends when Terraform has gone without a word.
"""

import base64
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tf.gen import grpc_controller_pb2 as controller_pb
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.iface import Provider

from ebbgate_terraform.servicer import Servicer

_COOKIE: Final = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
)
_PROTOCOL: Final = (1, 6)  # of plugins, of providers
_THREADS: Final = 16  # Terraform asks 10 things at once unless told otherwise
_LOOK_SECONDS: Final = 1.0
_LAST_WORDS_SECONDS: Final = 0.5


def is_asked_by_terraform() -> bool:
    """Tell whether Terraform started this process."""
    return os.environ.get(_COOKIE[0]) == _COOKIE[1]


def serve(provider: Provider) -> None:
    """Answer Terraform until it says that it is through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is Terraform's, which then says what to do
    over = threading.Event()
    parent = os.getppid()
    server = grpc.server(
        ThreadPoolExecutor(max_workers=_THREADS),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    rpc.add_ProviderServicer_to_server(Servicer(provider), server)
    controller_rpc.add_GRPCControllerServicer_to_server(_Controller(over), server)
    stdio_rpc.add_GRPCStdioServicer_to_server(_Stdio(), server)
    certificate, credentials = _credentials()
    with tempfile.TemporaryDirectory(prefix="ebbgate-") as folder:
        socket = f"{folder}/terraform.sock"
        server.add_secure_port(f"unix:{socket}", credentials)
        server.start()
        shown = base64.b64encode(certificate).decode().rstrip("=")
        sys.stdout.write(f"{_PROTOCOL[0]}|{_PROTOCOL[1]}|unix|{socket}|grpc|{shown}\n")
        sys.stdout.flush()
        while not over.wait(_LOOK_SECONDS) and os.getppid() == parent:
            pass
        server.stop(_LAST_WORDS_SECONDS).wait()


class _Controller(controller_rpc.GRPCControllerServicer):
    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def Shutdown(self, request: Any, context: grpc.ServicerContext) -> controller_pb.Empty:  # noqa: ANN401, N802
        """End the plugin."""
        del request, context
        self._over.set()
        return controller_pb.Empty()


class _Stdio(stdio_rpc.GRPCStdioServicer):
    def StreamStdio(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401, N802
        """Say nothing here: the log goes to stderr."""
        del request, context
        return iter(())


def _credentials() -> tuple[bytes, grpc.ServerCredentials]:
    """Return a certificate that lives as long as this process, and what the server needs of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "data_encipherment", "crl_sign", "encipher_only", "decipher_only"), False
    )
    needed = dict.fromkeys(("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign"), True)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.KeyUsage(**usage, **needed), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    credentials = grpc.ssl_server_credentials([(private, chain)], require_client_auth=False)
    return certificate.public_bytes(serialization.Encoding.DER), credentials
