"""A certificate authority and a server certificate for loopback, made with `openssl`."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: what the client trusts, and what the server presents."""

    ca: Path
    certificate: Path
    key: Path


def can_make_certificates() -> bool:
    """Whether the `openssl` command is there."""
    return shutil.which("openssl") is not None


def make_certificate(
    folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1", client: str | None = None
) -> Certificate:
    """Make a new authority, and a certificate by it for a server's names, valid for a week.

    With `client` it is one for a client of this name instead.

    Authority and server are two certificates because clients that verify strictly (Python 3.13's
    default) refuse a self-signed one that is both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    ca_key = folder / "ca.key"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7")
    _openssl(
        *("req", "-x509", *new_key, "-keyout", ca_key, "-out", made.ca),
        *("-subj", "/CN=Spoolway test authority", "-addext", "keyUsage=critical,keyCertSign"),
    )
    _openssl(
        *("req", "-x509", *new_key, "-keyout", made.key, "-out", made.certificate),
        *("-CA", made.ca, "-CAkey", ca_key, "-subj", f"/CN={client or 'localhost'}"),
        *("-addext", f"subjectAltName={names}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", f"extendedKeyUsage={'clientAuth' if client else 'serverAuth'}"),
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
