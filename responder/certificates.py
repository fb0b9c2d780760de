"""Whom we believe over TLS, and who we are: one context for HTTP, Redis and Sentinels; for libpq, which reads the files
itself, the same checks with the same words.

Files are read again for new connections once they have changed, so that a rotated certificate needs no restart.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import lru_cache

from responder.errors import BadConfig
from responder.services import ClientCertificate

Authorities = Callable[[], ssl.SSLContext]
"""Makes a context that believes the well-known authorities."""


def tls_context(
    ca_file: str | None, given: ClientCertificate | None, well_known: Authorities = ssl.create_default_context
) -> ssl.SSLContext:
    """A context that believes the authorities of `ca_file`, by default the well-known ones, and shows our certificate
    where one is `given`. Raises BadConfig for a file that cannot be used."""
    trust = _checked(f"ca_file {ca_file!r} cannot be read", _trust, ca_file, well_known, files=(ca_file,))
    if given is None:
        return trust
    pair = (given.cert_file, given.key_file)
    said = f"client_certificate {given.cert_file!r} with {given.key_file!r} cannot be used"
    return _checked(said, _with_certificate, ca_file, well_known, *pair, files=(ca_file, *pair))


def _checked(
    said: str, made: Callable[..., ssl.SSLContext], *given: object, files: tuple[str | None, ...]
) -> ssl.SSLContext:
    try:
        written = tuple(os.stat(file).st_mtime_ns for file in files if file is not None)
        return made(*given, written)
    except OSError as error:  # ssl.SSLError is one: a key that does not belong to its certificate
        why = error.strerror or type(error).__name__
        raise BadConfig(f"{said} ({why}); check the path, what is in it, and who may read it") from None


@lru_cache(maxsize=32)
def _trust(ca_file: str | None, well_known: Authorities, _written: tuple[int, ...]) -> ssl.SSLContext:
    """Reading the authorities takes tens of milliseconds, so all connections share the result."""
    return ssl.create_default_context(cafile=ca_file) if ca_file else well_known()


@lru_cache(maxsize=32)
def _with_certificate(
    ca_file: str | None, well_known: Authorities, cert: str, key: str, written: tuple[int, ...]
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else well_known()
    context.load_cert_chain(cert, key, password="")  # else OpenSSL would ask the terminal for one
    return context
