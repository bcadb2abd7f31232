from millpond.v1 import control_pb2 as _control_pb2
from millpond.v1 import envelope_pb2 as _envelope_pb2
from millpond.v1 import request_pb2 as _request_pb2
from millpond.v1 import result_pb2 as _result_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Chunk(_message.Message):
    __slots__ = ("text", "result")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    text: str
    result: _result_pb2.Result
    def __init__(self, text: _Optional[str] = ..., result: _Optional[_Union[_result_pb2.Result, _Mapping]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("request", "model", "output", "usage")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.Request
    model: str
    output: _result_pb2.Output
    usage: _result_pb2.Usage
    def __init__(self, request: _Optional[_Union[_request_pb2.Request, _Mapping]] = ..., model: _Optional[str] = ..., output: _Optional[_Union[_result_pb2.Output, _Mapping]] = ..., usage: _Optional[_Union[_result_pb2.Usage, _Mapping]] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("kept", "key")
    KEPT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    kept: bool
    key: str
    def __init__(self, kept: _Optional[bool] = ..., key: _Optional[str] = ...) -> None: ...

class InvalidateResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    def __init__(self, entries: _Optional[int] = ...) -> None: ...

class ReindexRequest(_message.Message):
    __slots__ = ("by",)
    BY_FIELD_NUMBER: _ClassVar[int]
    by: str
    def __init__(self, by: _Optional[str] = ...) -> None: ...

class ReindexResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    def __init__(self, entries: _Optional[int] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("tenant", "source_id", "wrong")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    source_id: str
    wrong: bool
    def __init__(self, tenant: _Optional[str] = ..., source_id: _Optional[str] = ..., wrong: _Optional[bool] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    def __init__(self, entries: _Optional[int] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class StatsResponse(_message.Message):
    __slots__ = ("reasons", "lookups", "hits", "judged", "wrong", "error", "error_low", "error_high", "input_tokens_saved", "output_tokens_saved", "reported", "reported_wrong")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REASONS_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_LOW_FIELD_NUMBER: _ClassVar[int]
    ERROR_HIGH_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_SAVED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_SAVED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_WRONG_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.ScalarMap[str, int]
    lookups: int
    hits: int
    judged: int
    wrong: int
    error: float
    error_low: float
    error_high: float
    input_tokens_saved: int
    output_tokens_saved: int
    reported: int
    reported_wrong: int
    def __init__(self, reasons: _Optional[_Mapping[str, int]] = ..., lookups: _Optional[int] = ..., hits: _Optional[int] = ..., judged: _Optional[int] = ..., wrong: _Optional[int] = ..., error: _Optional[float] = ..., error_low: _Optional[float] = ..., error_high: _Optional[float] = ..., input_tokens_saved: _Optional[int] = ..., output_tokens_saved: _Optional[int] = ..., reported: _Optional[int] = ..., reported_wrong: _Optional[int] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("request", "model")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.Request
    model: str
    def __init__(self, request: _Optional[_Union[_request_pb2.Request, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class RecallRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ...) -> None: ...

class RecallResponse(_message.Message):
    __slots__ = ("answers",)
    class AnswersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _envelope_pb2.Answered
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_envelope_pb2.Answered, _Mapping]] = ...) -> None: ...
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.MessageMap[str, _envelope_pb2.Answered]
    def __init__(self, answers: _Optional[_Mapping[str, _envelope_pb2.Answered]] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("answer", "reasons", "embedding")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    answer: _envelope_pb2.Answered
    reasons: _containers.RepeatedCompositeFieldContainer[_result_pb2.Reason]
    embedding: _envelope_pb2.Embedding
    def __init__(self, answer: _Optional[_Union[_envelope_pb2.Answered, _Mapping]] = ..., reasons: _Optional[_Iterable[_Union[_result_pb2.Reason, _Mapping]]] = ..., embedding: _Optional[_Union[_envelope_pb2.Embedding, _Mapping]] = ...) -> None: ...
