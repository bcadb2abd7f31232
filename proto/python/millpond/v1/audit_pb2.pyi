from millpond.v1 import result_pb2 as _result_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Audit(_message.Message):
    __slots__ = ("sample", "result")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    result: _result_pb2.Result
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., result: _Optional[_Union[_result_pb2.Result, _Mapping]] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("asked_id", "source_id", "cluster", "given", "probability")
    ASKED_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    asked_id: str
    source_id: str
    cluster: str
    given: _result_pb2.Output
    probability: float
    def __init__(self, asked_id: _Optional[str] = ..., source_id: _Optional[str] = ..., cluster: _Optional[str] = ..., given: _Optional[_Union[_result_pb2.Output, _Mapping]] = ..., probability: _Optional[float] = ...) -> None: ...
