"""Settings of librdkafka mean the same to the router's own Kafka client, or are named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from faust import GSSAPICredentials, SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

from millpond_router.kafka_client import COUNTERPARTS, OWN, NoCounterpart, client_of


def test_without_settings_there_are_none() -> None:
    client = client_of({})
    assert (client.credentials, client.settings, client.unused) == (None, {}, ())


@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password(name: str, mechanism: str) -> None:
    given = {"security.protocol": "SASL_PLAINTEXT", name: mechanism, "sasl.username": "mill", "sasl.password": "pond"}
    credentials = client_of(given).credentials
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.username, credentials.password) == ("mill", "pond")
    assert credentials.mechanism == SASLMechanism(mechanism)
    assert credentials.protocol == AuthProtocol.SASL_PLAINTEXT


def test_a_password_over_tls() -> None:
    given = {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "a", "sasl.password": "b"}
    credentials = client_of(given).credentials
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol == AuthProtocol.SASL_SSL
    assert credentials.ssl_context is not None
    assert credentials.ssl_context.check_hostname


def test_kerberos() -> None:
    credentials = client_of({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "GSSAPI"}).credentials
    assert isinstance(credentials, GSSAPICredentials)
    assert credentials.kerberos_service_name == "kafka"


def test_tls_checks_the_broker_unless_told_not_to() -> None:
    credentials = client_of({"security.protocol": "SSL"}).credentials
    assert isinstance(credentials, SSLCredentials)
    assert credentials.context.check_hostname
    assert credentials.context.verify_mode == ssl.CERT_REQUIRED
    no_name = client_of({"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}).credentials
    assert isinstance(no_name, SSLCredentials)
    assert not no_name.context.check_hostname
    assert no_name.context.verify_mode == ssl.CERT_REQUIRED
    nothing = client_of({"security.protocol": "SSL", "enable.ssl.certificate.verification": "false"}).credentials
    assert isinstance(nothing, SSLCredentials)
    assert nothing.context.verify_mode == ssl.CERT_NONE


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    for name in ("ssl.ca.location", "ssl.certificate.location"):
        with pytest.raises(NoCounterpart, match="ca\\.pem"):
            client_of({"security.protocol": "SSL", name: missing})


def test_settings_of_the_client_have_its_names_and_units() -> None:
    given = {"client.id": "mine", "session.timeout.ms": "9000", "compression.type": "lz4", "compression.codec": "none"}
    client = client_of(given)
    assert client.settings["broker_client_id"] == "mine"
    assert client.settings["broker_session_timeout"] == 9.0


def test_what_only_tunes_librdkafka_is_reported_and_what_is_the_routers_own_is_not_passed() -> None:
    client = client_of({"socket.keepalive.enable": "true", **dict.fromkeys(OWN, "x")})
    assert client.unused == ("socket.keepalive.enable",)
    assert not client.settings
    assert not OWN & COUNTERPARTS.keys()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"security.protocol": "TLS"}, "security.protocol"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "sasl.mechanism"),
        ({"sasl.oauthbearer.method": "oidc"}, "sasl.oauthbearer.method"),
        ({"security.protocol": "SSL", "ssl.keystore.location": "x"}, "ssl.keystore.location"),
        ({"ssl.ca.location": "x"}, "ssl.ca.location"),
        ({"session.timeout.ms": "soon"}, "session.timeout.ms"),
    ],
)
def test_security_that_has_no_counterpart_stops_the_start(given: dict[str, str], named: str) -> None:
    with pytest.raises(NoCounterpart, match=named):
        client_of(given)
