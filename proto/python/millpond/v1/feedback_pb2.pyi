from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Feedback(_message.Message):
    __slots__ = ("id", "tenant", "model", "good", "source", "heads", "quality", "raw_quality", "cache")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    RAW_QUALITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    model: str
    good: float
    source: str
    heads: str
    quality: float
    raw_quality: float
    cache: CacheGiven
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., good: _Optional[float] = ..., source: _Optional[str] = ..., heads: _Optional[str] = ..., quality: _Optional[float] = ..., raw_quality: _Optional[float] = ..., cache: _Optional[_Union[CacheGiven, _Mapping]] = ...) -> None: ...

class CacheGiven(_message.Message):
    __slots__ = ("source_id", "cluster")
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    cluster: str
    def __init__(self, source_id: _Optional[str] = ..., cluster: _Optional[str] = ...) -> None: ...
