"""Certificates for tests of TLS."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificates(folder: Path) -> Path:
    """Make two certificates for localhost, `one` and `two`, with their keys, and `one`'s key with a password."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    for name in ("one", "two"):
        subprocess.run(
            [
                openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    subprocess.run(
        [
            openssl,
            "ec",
            "-aes256",
            "-passout",
            "pass:x",
            "-in",
            folder / "one.key",
            "-out",
            folder / "locked.key",
        ],
        check=True,
        capture_output=True,
    )
    return folder
