from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Control(_message.Message):
    __slots__ = ("cancel", "cancel_batch", "hold_batch", "resume_batch")
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_BATCH_FIELD_NUMBER: _ClassVar[int]
    HOLD_BATCH_FIELD_NUMBER: _ClassVar[int]
    RESUME_BATCH_FIELD_NUMBER: _ClassVar[int]
    cancel: Cancel
    cancel_batch: Batch
    hold_batch: Batch
    resume_batch: Batch
    def __init__(self, cancel: _Optional[_Union[Cancel, _Mapping]] = ..., cancel_batch: _Optional[_Union[Batch, _Mapping]] = ..., hold_batch: _Optional[_Union[Batch, _Mapping]] = ..., resume_batch: _Optional[_Union[Batch, _Mapping]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("tenant", "id", "replay")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    replay: int
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., replay: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("tenant", "name")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    name: str
    def __init__(self, tenant: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...
