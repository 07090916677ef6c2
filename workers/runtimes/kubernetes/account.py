"""What of the official client is used: credentials, TLS and connections of one API server.

The only module that imports it, and client.py loads this one when it first needs it: the client weighs some 25 MB in
every process, and an installation without a Kubernetes cluster never talks to one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import urllib3
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from freehold.fleet.kubeconfig import Access
from workers.runtimes.base import RuntimeUnavailable


class Account:
    """Who we are to one API server, and connections to it.

    Attributes:
        host: the server's address, without a slash at its end.
        pool: connections; they check the server and show it our certificate, where there is one.
    """

    def __init__(self, configuration: kubernetes_client.Configuration, files: Sequence[_MemoryFile] = ()) -> None:
        configuration.retries = False
        self._files = files  # for as long as connections are made
        self._configuration = configuration
        self._rest = kubernetes_client.ApiClient(configuration).rest_client
        self.host = configuration.host.rstrip("/")
        self.pool: urllib3.PoolManager = self._rest.pool_manager

    def authorization(self) -> str:
        """The Authorization header of a request made now, since a pod's token changes; empty where none is sent."""
        token = self._configuration.auth_settings().get("BearerToken")
        return token["value"] or "" if token is not None else ""

    def close(self) -> None:
        """Closes the connections and forgets the secrets."""
        self._rest.close()
        for file in self._files:
            file.close()


def account_of(access: Access, *, connections: int) -> Account:
    """With credentials from a checked kubeconfig."""
    configuration = kubernetes_client.Configuration()
    configuration.host = access.server
    configuration.verify_ssl = access.verify
    configuration.ca_cert_data = access.ca.decode() or None
    configuration.tls_server_name = access.tls_server_name or None
    if access.token:
        configuration.api_key["BearerToken"] = access.token
        configuration.api_key_prefix["BearerToken"] = "Bearer"
    files = []
    if access.client_certificate:
        files = [_MemoryFile(access.client_certificate), _MemoryFile(access.client_key)]
        configuration.cert_file, configuration.key_file = (file.path for file in files)
    configuration.connection_pool_maxsize = connections
    return Account(configuration, files)


def account_of_this_cluster(*, connections: int) -> Account:
    """With the account of the pod that we are. Raises RuntimeUnavailable outside of a pod."""
    configuration = kubernetes_client.Configuration()
    try:
        kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except kubernetes_config.ConfigException as error:
        raise RuntimeUnavailable(
            f"We do not run in a cluster with an account of our own ({error}) Register the cluster with a "
            "kubeconfig instead."
        ) from None
    configuration.connection_pool_maxsize = connections
    return Account(configuration)


class _MemoryFile:
    """A secret where TLS wants a file: in memory only, readable by this process and gone with it."""

    def __init__(self, content: bytes) -> None:
        self._descriptor = os.memfd_create("credential", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            file.write(content)
        self.path = f"/proc/self/fd/{self._descriptor}"

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close
