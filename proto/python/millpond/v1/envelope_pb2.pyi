import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millpond.v1 import audit_pb2 as _audit_pb2
from millpond.v1 import request_pb2 as _request_pb2
from millpond.v1 import result_pb2 as _result_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WireFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WIRE_FORMAT_UNSPECIFIED: _ClassVar[WireFormat]
    WIRE_FORMAT_JSON: _ClassVar[WireFormat]
    WIRE_FORMAT_PROTOBUF: _ClassVar[WireFormat]
WIRE_FORMAT_UNSPECIFIED: WireFormat
WIRE_FORMAT_JSON: WireFormat
WIRE_FORMAT_PROTOBUF: WireFormat

class Routed(_message.Message):
    __slots__ = ("request", "decision", "embedding", "format", "replay", "accepted_at", "attempts", "timings_ms", "reject", "answered", "origin", "sample")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.Request
    decision: _result_pb2.Decision
    embedding: Embedding
    format: WireFormat
    replay: int
    accepted_at: _timestamp_pb2.Timestamp
    attempts: _containers.RepeatedCompositeFieldContainer[_result_pb2.Attempt]
    timings_ms: _containers.ScalarMap[str, float]
    reject: _result_pb2.Error
    answered: Answered
    origin: Origin
    sample: _audit_pb2.Sample
    def __init__(self, request: _Optional[_Union[_request_pb2.Request, _Mapping]] = ..., decision: _Optional[_Union[_result_pb2.Decision, _Mapping]] = ..., embedding: _Optional[_Union[Embedding, _Mapping]] = ..., format: _Optional[_Union[WireFormat, str]] = ..., replay: _Optional[int] = ..., accepted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[_result_pb2.Attempt, _Mapping]]] = ..., timings_ms: _Optional[_Mapping[str, float]] = ..., reject: _Optional[_Union[_result_pb2.Error, _Mapping]] = ..., answered: _Optional[_Union[Answered, _Mapping]] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ..., sample: _Optional[_Union[_audit_pb2.Sample, _Mapping]] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("topic", "partition", "offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ("output", "served_by", "usage", "status", "error")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    output: _result_pb2.Output
    served_by: _result_pb2.ServedBy
    usage: _result_pb2.Usage
    status: _result_pb2.Status
    error: _result_pb2.Error
    def __init__(self, output: _Optional[_Union[_result_pb2.Output, _Mapping]] = ..., served_by: _Optional[_Union[_result_pb2.ServedBy, _Mapping]] = ..., usage: _Optional[_Union[_result_pb2.Usage, _Mapping]] = ..., status: _Optional[_Union[_result_pb2.Status, str]] = ..., error: _Optional[_Union[_result_pb2.Error, _Mapping]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("vector", "version", "tokens")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    vector: bytes
    version: str
    tokens: int
    def __init__(self, vector: _Optional[bytes] = ..., version: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class Learned(_message.Message):
    __slots__ = ("request", "embedding", "output", "served_by", "usage", "answered_at")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.Request
    embedding: Embedding
    output: _result_pb2.Output
    served_by: _result_pb2.ServedBy
    usage: _result_pb2.Usage
    answered_at: _timestamp_pb2.Timestamp
    def __init__(self, request: _Optional[_Union[_request_pb2.Request, _Mapping]] = ..., embedding: _Optional[_Union[Embedding, _Mapping]] = ..., output: _Optional[_Union[_result_pb2.Output, _Mapping]] = ..., served_by: _Optional[_Union[_result_pb2.ServedBy, _Mapping]] = ..., usage: _Optional[_Union[_result_pb2.Usage, _Mapping]] = ..., answered_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
