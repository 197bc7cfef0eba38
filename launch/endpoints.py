"""Where the clients of the two clouds' services go, and as whom.

They follow gcloud's own variables for another address of a service, such as
CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE. At an http:// address, which is not Google's,
nobody is logged in.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from scaling.errors import UserError


def address(service: str) -> str:
    """The other address of "COMPUTE" or "TPU", "" for Google's own."""
    return os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", "").rstrip("/")


def tpu() -> Any:
    """A client of the Cloud TPU API."""
    from google.cloud import tpu_v2

    given = address("TPU")
    if not given.startswith("http://"):
        return tpu_v2.TpuClient(client_options={"api_endpoint": _host(given)})
    import grpc
    from google.cloud.tpu_v2.services.tpu.transports import TpuGrpcTransport

    channel = grpc.insecure_channel(_host(given))
    return tpu_v2.TpuClient(transport=TpuGrpcTransport(channel=channel))


def compute(client: str) -> Any:
    """A client of Compute Engine, by the name of its class ("InstancesClient")."""
    from google.cloud import compute_v1

    made = getattr(compute_v1, client)
    given = address("COMPUTE")
    if not given.startswith("http://"):
        return made(client_options={"api_endpoint": _host(given)})
    from google.auth.credentials import AnonymousCredentials

    transport = made.get_transport_class("rest")(
        host=_host(given), credentials=AnonymousCredentials(), url_scheme="http"
    )
    return made(transport=transport)


def _host(given: str) -> str | None:
    return urlsplit(given).netloc or given or None


def project(given: str | None) -> str:
    """The project's id: as given, or what the environment or gcloud's login names.

    Raises:
      UserError: none is named.
    """
    found: str | None = given or os.environ.get("GOOGLE_CLOUD_PROJECT", "")
    if not found:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        try:
            _, found = google.auth.default()
        except DefaultCredentialsError:
            found = ""
    if not found:
        raise UserError("project", "", "give --project, or set GOOGLE_CLOUD_PROJECT")
    return found
