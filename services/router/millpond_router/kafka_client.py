"""Settings of librdkafka, as all services have them, for Faust's Kafka client (aiokafka). Pure, but for TLS files."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from faust import GSSAPICredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

SECURITY = ("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.")
"""Settings that begin so must not be left out in silence: the connection would be another than the one meant."""


def _seconds(milliseconds: str) -> float:
    return float(milliseconds) / 1000


def _compression(codec: str) -> str | None:
    return None if codec == "none" else codec


Convert = Callable[[str], Any]

COUNTERPARTS: Mapping[str, tuple[str, Convert]] = {
    "client.id": ("broker_client_id", str),
    "check.crcs": ("broker_check_crcs", lambda value: value == "true"),
    "connections.max.idle.ms": ("consumer_connections_max_idle_ms", int),
    "compression.codec": ("producer_compression_type", _compression),
    "compression.type": ("producer_compression_type", _compression),
    "batch.size": ("producer_max_batch_size", int),
    "heartbeat.interval.ms": ("broker_heartbeat_interval", _seconds),
    "linger.ms": ("producer_linger", _seconds),
    "max.poll.interval.ms": ("broker_max_poll_interval", _seconds),
    "metadata.max.age.ms": ("consumer_metadata_max_age_ms", int),
    "queue.buffering.max.ms": ("producer_linger", _seconds),
    "session.timeout.ms": ("broker_session_timeout", _seconds),
}
"""What Faust calls them. Those that correctness rests on (acks, isolation.level, group.id, …) are the router's own."""

OWN = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.idempotence",
        "group.id",
        "isolation.level",
        "partitioner",
        "request.required.acks",
    }
)
"""Set by the router, whatever is given."""


class NoCounterpart(Exception):
    """The message names the setting and what to do."""


@dataclass(frozen=True)
class Client:
    """settings: Faust's, by name. unused: those without a counterpart, which only tune librdkafka."""

    credentials: CredentialsT | None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unused: tuple[str, ...] = ()


def client_of(given: Mapping[str, str]) -> Client:
    """Raises NoCounterpart for a setting of security that Faust's client does not have, or a wrong value."""
    left = dict(given)
    credentials = _credentials(left)
    if unknown := sorted(name for name in left if name.startswith(SECURITY)):
        raise NoCounterpart(f"kafka: {', '.join(unknown)}: the router's Kafka client (aiokafka) has nothing like it")
    settings: dict[str, Any] = {}
    for name in [name for name in left if name in COUNTERPARTS]:
        counterpart, convert = COUNTERPARTS[name]
        try:
            settings[counterpart] = convert(left.pop(name))
        except ValueError as failure:
            raise NoCounterpart(f"kafka: {name}: {failure}") from failure
    return Client(credentials, settings, tuple(sorted(left.keys() - OWN)))


def _credentials(left: dict[str, str]) -> CredentialsT | None:
    """Takes what it understands out of `left`."""
    protocol = left.pop("security.protocol", "PLAINTEXT").upper()
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise NoCounterpart(f"kafka: security.protocol: {protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
    context = _tls(left) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return _sasl(left, context)
    return None if context is None else SSLCredentials(context)


def _sasl(left: dict[str, str], context: ssl.SSLContext | None) -> CredentialsT:
    mechanism = left.pop("sasl.mechanism", None) or left.pop("sasl.mechanisms", "GSSAPI")
    left.pop("sasl.mechanisms", None)
    if mechanism in PASSWORD_MECHANISMS:
        username, password = left.pop("sasl.username", None), left.pop("sasl.password", None)
        return SASLCredentials(username=username, password=password, ssl_context=context, mechanism=mechanism)
    if mechanism == "GSSAPI":
        service = left.pop("sasl.kerberos.service.name", "kafka")
        return GSSAPICredentials(kerberos_service_name=service, ssl_context=context, mechanism=mechanism)
    allowed = ", ".join((*PASSWORD_MECHANISMS, "GSSAPI"))
    raise NoCounterpart(f"kafka: sasl.mechanism: the router can use {allowed}, not {mechanism}")


def _tls(left: dict[str, str]) -> ssl.SSLContext:
    authorities, certificate = left.pop("ssl.ca.location", None), left.pop("ssl.certificate.location", None)
    try:
        context = ssl.create_default_context(cafile=authorities, cadata=left.pop("ssl.ca.pem", None))
        if certificate:
            key, password = left.pop("ssl.key.location", None), left.pop("ssl.key.password", None)
            context.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as failure:
        files = ", ".join(name for name in (authorities, certificate) if name)
        raise NoCounterpart(f"kafka: ssl.…location: {files or 'ssl.ca.pem'}: {failure}") from failure
    # "" and "none" are how librdkafka is told not to compare the broker's name with its certificate's.
    if left.pop("ssl.endpoint.identification.algorithm", "https") in ("", "none"):
        context.check_hostname = False
    if left.pop("enable.ssl.certificate.verification", "true") == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
