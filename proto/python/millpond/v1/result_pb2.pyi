import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millpond.v1 import request_pb2 as _request_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_OK: _ClassVar[Status]
    STATUS_ERROR: _ClassVar[Status]
    STATUS_EXPIRED: _ClassVar[Status]
    STATUS_CANCELLED: _ClassVar[Status]

class Route(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_UNSPECIFIED: _ClassVar[Route]
    ROUTE_CACHE: _ClassVar[Route]
    ROUTE_SMALL: _ClassVar[Route]
    ROUTE_FRONTIER: _ClassVar[Route]
STATUS_UNSPECIFIED: Status
STATUS_OK: Status
STATUS_ERROR: Status
STATUS_EXPIRED: Status
STATUS_CANCELLED: Status
ROUTE_UNSPECIFIED: Route
ROUTE_CACHE: Route
ROUTE_SMALL: Route
ROUTE_FRONTIER: Route

class Result(_message.Message):
    __slots__ = ("id", "tenant", "status", "output", "error", "served_by", "decision", "usage", "cost_usd", "cost_sync_usd", "attempts", "timings_ms", "trace_id", "metadata", "replay")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    COST_SYNC_USD_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    status: Status
    output: Output
    error: Error
    served_by: ServedBy
    decision: Decision
    usage: Usage
    cost_usd: str
    cost_sync_usd: str
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    timings_ms: _containers.ScalarMap[str, float]
    trace_id: str
    metadata: _containers.ScalarMap[str, str]
    replay: int
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., cost_usd: _Optional[str] = ..., cost_sync_usd: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., timings_ms: _Optional[_Mapping[str, float]] = ..., trace_id: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., replay: _Optional[int] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("text", "finish_reason")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish_reason: str
    def __init__(self, text: _Optional[str] = ..., finish_reason: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class ServedBy(_message.Message):
    __slots__ = ("route", "model", "cache")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    route: Route
    model: str
    cache: CacheHit
    def __init__(self, route: _Optional[_Union[Route, str]] = ..., model: _Optional[str] = ..., cache: _Optional[_Union[CacheHit, _Mapping]] = ...) -> None: ...

class CacheHit(_message.Message):
    __slots__ = ("kind", "similarity", "source_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    similarity: float
    source_id: str
    def __init__(self, kind: _Optional[str] = ..., similarity: _Optional[float] = ..., source_id: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("route", "model", "error", "usage", "duration_ms")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    route: Route
    model: str
    error: Error
    usage: Usage
    duration_ms: float
    def __init__(self, route: _Optional[_Union[Route, str]] = ..., model: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., duration_ms: _Optional[float] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("reasons", "tier", "deadline", "route", "model", "judgement", "forbidden")
    REASONS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    JUDGEMENT_FIELD_NUMBER: _ClassVar[int]
    FORBIDDEN_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    tier: _request_pb2.Tier
    deadline: _timestamp_pb2.Timestamp
    route: Route
    model: str
    judgement: Judgement
    forbidden: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., tier: _Optional[_Union[_request_pb2.Tier, str]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., route: _Optional[_Union[Route, str]] = ..., model: _Optional[str] = ..., judgement: _Optional[_Union[Judgement, _Mapping]] = ..., forbidden: _Optional[_Iterable[str]] = ...) -> None: ...

class Judgement(_message.Message):
    __slots__ = ("heads", "domain", "domain_probability", "task", "difficulty", "out_of_scope", "novelty", "features", "min_quality", "options", "language")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HEADS_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_SCOPE_FIELD_NUMBER: _ClassVar[int]
    NOVELTY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    heads: str
    domain: str
    domain_probability: float
    task: str
    difficulty: float
    out_of_scope: float
    novelty: float
    features: _containers.ScalarMap[str, float]
    min_quality: float
    options: _containers.RepeatedCompositeFieldContainer[Option]
    language: str
    def __init__(self, heads: _Optional[str] = ..., domain: _Optional[str] = ..., domain_probability: _Optional[float] = ..., task: _Optional[str] = ..., difficulty: _Optional[float] = ..., out_of_scope: _Optional[float] = ..., novelty: _Optional[float] = ..., features: _Optional[_Mapping[str, float]] = ..., min_quality: _Optional[float] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ..., language: _Optional[str] = ...) -> None: ...

class Option(_message.Message):
    __slots__ = ("model", "quality", "raw_quality", "cost_usd", "verdict")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    RAW_QUALITY_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    model: str
    quality: float
    raw_quality: float
    cost_usd: str
    verdict: str
    def __init__(self, model: _Optional[str] = ..., quality: _Optional[float] = ..., raw_quality: _Optional[float] = ..., cost_usd: _Optional[str] = ..., verdict: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "value", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: str
    value: float
    detail: str
    def __init__(self, code: _Optional[str] = ..., value: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...
