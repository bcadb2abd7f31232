"""The local stack, described as data: what runs, how it is started, where it listens, when it is ready.

Ports are offsets from the port base (`--port-base`, 19000 by default). A stack uses the 200 numbers from its base on,
so a second one fits at a base 200 higher. Everything listens on 127.0.0.1.

    offset  port                            offset  port
        17  jaeger, OTLP over gRPC              86  jaeger, query API over HTTP
        18  jaeger, OTLP over HTTP              87  jaeger, query API over gRPC
        33  jaeger, health                      92  kafka, clients
        50  milvus, clients                     93  kafka, controller
        51  milvus, health and metrics     100-109  router, HTTP
     52-61  milvus, its own parts          120-129  cache, HTTP
        70  stand-in, OpenAI's API         130-139  cache, gRPC
        80  triton, HTTP                   140-149  batcher, HTTP
        81  triton, gRPC                   160-169  frontier, HTTP
        82  triton, metrics                170-179  frontier, gRPC

Templates may name: {python} the workspace environment's Python, {models_python} the model environment's, {repo} the
repository, {models} the folder of the models that run, {assets} the model files, {kafka_libs}, {jaeger_binary} and
{milvus_binaries} what was set up, {config} the configuration file or nothing, {state} the instance's own folder,
{replica}, {own.PORT} and {COMPONENT.PORT}; and {provider_url}, {provider_key}, {otlp} and {traces_file}, see
`SERVICE_ENVIRONMENT`.
"""

from __future__ import annotations

from collections.abc import Mapping

from millpond_cli.stack.description import Answers, Component, Finishes, SpeaksKafka

DEFAULT_PORT_BASE = 19000

SPAN = 200
"""Port numbers that one stack uses, from its base on."""

KAFKA = Component(
    name="kafka",
    command=(
        *("{python}", "-m", "millpond_cli.stack.kafka_server", "--libs", "{kafka_libs}"),
        *("--settings", "{repo}/stack/kafka", "--state", "{state}"),
        *("--port", "{own.broker}", "--controller-port", "{own.controller}"),
    ),
    ports={"broker": 92, "controller": 93},
    ready=SpeaksKafka("broker"),
)

TOPICS = Component(
    name="topics",
    command=("{python}", "-m", "millpond_core.topics", "--bootstrap", "127.0.0.1:{kafka.broker}"),
    # Partitions and replication are settings.
    environment={"MILLPOND_CONFIG": "{config}"},
    ports={},
    ready=Finishes(),
    needs=("kafka",),
    module="millpond_core.topics",
)

MILVUS = Component(
    name="milvus",
    command=(
        *("{python}", "-m", "millpond_cli.stack.milvus_server", "--binaries", "{milvus_binaries}"),
        *("--state", "{state}", "--port", "{own.grpc}", "--metrics-port", "{own.metrics}"),
        *("--first-inner-port", "{own.inner}"),
    ),
    ports={"grpc": 50, "metrics": 51, **{"inner" if n == 0 else f"inner{n}": 52 + n for n in range(10)}},
    ready=Answers("metrics", "/healthz"),
    # Told to stop, its parts sometimes wait for each other without end; what was written is in its log by then.
    stop_s=3,
)

TRITON = Component(
    name="triton",
    command=(
        *("{models_python}", "{repo}/models/serve.py", "--repository", "{models}", "--assets", "{assets}"),
        *("--http-port", "{own.http}", "--grpc-port", "{own.grpc}", "--metrics-port", "{own.metrics}"),
    ),
    ports={"http": 80, "grpc": 81, "metrics": 82},
    ready=Answers("http", "/v2/health/ready"),
    # Triton itself gives running requests 10 s (EXIT_TIMEOUT_S in models/serve.py).
    stop_s=15,
)

STAND_IN = Component(
    name="stand-in",
    command=("{models_python}", "{models}/stand_in.py", "--port", "{own.http}", "--assets", "{assets}"),
    ports={"http": 70},
    ready=Answers("http", "/health"),
)

JAEGER = Component(
    name="jaeger",
    command=("{jaeger_binary}", "--config", "{repo}/stack/jaeger/config.yaml"),
    environment={
        "JAEGER_OTLP_GRPC": "127.0.0.1:{own.otlp}",
        "JAEGER_OTLP_HTTP": "127.0.0.1:{own.otlp_http}",
        "JAEGER_QUERY": "127.0.0.1:{own.query}",
        "JAEGER_QUERY_GRPC": "127.0.0.1:{own.query_grpc}",
        "JAEGER_HEALTH": "127.0.0.1:{own.health}",
        "JAEGER_DATA": "{state}",
        # Bytes: the collector's memory limiter and the store's caches live inside this.
        "GOMEMLIMIT": "400MiB",
    },
    ports={"otlp": 17, "otlp_http": 18, "health": 33, "query": 86, "query_grpc": 87},
    ready=Answers("health", "/status"),
)

SERVICE_ENVIRONMENT: Mapping[str, str] = {
    "MILLPOND_KAFKA_BOOTSTRAP": "127.0.0.1:{kafka.broker}",
    "MILLPOND_TRITON": "127.0.0.1:{triton.grpc}",
    "MILLPOND_MILVUS": "http://127.0.0.1:{milvus.grpc}",
    "MILLPOND_CACHE_GRPC": "127.0.0.1:{cache.grpc}",
    "MILLPOND_HTTP_PORT": "{own.http}",
    "MILLPOND_STATE_DIR": "{state}",
    "MILLPOND_REPLICA": "{replica}",
    "MILLPOND_CONFIG": "{config}",
    "MILLPOND_PROVIDER_BASE_URL": "{provider_url}",
    "MILLPOND_PROVIDER_API_KEY": "{provider_key}",
    # One of the two is set: the collector, or without one the file that spans are written to.
    "MILLPOND_OTLP_ENDPOINT": "{otlp}",
    "MILLPOND_TRACES_FILE": "{traces_file}",
}
"""What every service is told. A variable whose value comes out empty is not set at all."""


def _service(name: str, ports: Mapping[str, int], uses: tuple[str, ...]) -> Component:
    grpc = {"MILLPOND_GRPC_PORT": "{own.grpc}"} if "grpc" in ports else {}
    return Component(
        name=name,
        command=("{python}", "-m", f"millpond_{name}"),
        environment={**SERVICE_ENVIRONMENT, **grpc},
        ports=ports,
        ready=Answers("http", "/readyz"),
        needs=("topics",),
        uses=("kafka", "jaeger", *uses),
        # It ends rather than go on in doubt, for example about who owns a transactional id.
        chances=3,
        # A service drains for 20 s at most (drain_s in its settings).
        stop_s=25,
        module=f"millpond_{name}",
        is_service=True,
    )


ROUTER = _service("router", {"http": 100}, uses=("triton",))
CACHE = _service("cache", {"http": 120, "grpc": 130}, uses=("triton", "milvus"))
BATCHER = _service("batcher", {"http": 140}, uses=("triton",))
FRONTIER = _service("frontier", {"http": 160, "grpc": 170}, uses=("cache", "stand-in"))

MODELS: Mapping[str, str] = {"real": "models", "echo": "models/echo"}
"""Which models a stack runs → their folder in the repository: one for Triton, and the large model's stand-in."""

MODELS_ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    "real": {},
    # It has no embedder: requests are routed by rules, and matched by their words alone.
    "echo": {"MILLPOND_ROUTER__EMBED": "false"},
}
"""What services are told besides, by the models that run."""

COMPONENTS = (KAFKA, TOPICS, MILVUS, TRITON, STAND_IN, JAEGER, ROUTER, CACHE, BATCHER, FRONTIER)
"""In the order in which they are shown. Each starts as soon as what it needs is ready."""
