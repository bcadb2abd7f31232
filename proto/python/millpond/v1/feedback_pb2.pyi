from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Feedback(_message.Message):
    __slots__ = ("id", "tenant", "model", "good", "source", "heads", "quality", "raw_quality")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    RAW_QUALITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    model: str
    good: float
    source: str
    heads: str
    quality: float
    raw_quality: float
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., good: _Optional[float] = ..., source: _Optional[str] = ..., heads: _Optional[str] = ..., quality: _Optional[float] = ..., raw_quality: _Optional[float] = ...) -> None: ...
