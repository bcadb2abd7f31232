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

class LookupRequest(_message.Message):
    __slots__ = ("request", "model")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.Request
    model: str
    def __init__(self, request: _Optional[_Union[_request_pb2.Request, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("answer", "reasons", "embedding")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    answer: _envelope_pb2.Answered
    reasons: _containers.RepeatedCompositeFieldContainer[_result_pb2.Reason]
    embedding: _envelope_pb2.Embedding
    def __init__(self, answer: _Optional[_Union[_envelope_pb2.Answered, _Mapping]] = ..., reasons: _Optional[_Iterable[_Union[_result_pb2.Reason, _Mapping]]] = ..., embedding: _Optional[_Union[_envelope_pb2.Embedding, _Mapping]] = ...) -> None: ...
