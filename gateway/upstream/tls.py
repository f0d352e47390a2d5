"""TLS to providers: certificates are verified always, 1.3 is the floor unless settings say 1.2."""

from __future__ import annotations

import ssl
from functools import cache

import truststore

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@cache
def context(ca_file: str | None = None, minimum: str = "1.3") -> ssl.SSLContext:
    """A client context that trusts the system's store, or only the authorities in `ca_file` (PEM).

    Raises `OSError` or `ssl.SSLError` when the file cannot be used.
    """
    made: ssl.SSLContext
    if ca_file is None:
        made = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        made = ssl.create_default_context(cafile=ca_file)
    made.minimum_version = VERSIONS[minimum]
    return made
