import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Control(_message.Message):
    __slots__ = ("cancel", "cancel_batch", "hold_batch", "resume_batch", "invalidate")
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_BATCH_FIELD_NUMBER: _ClassVar[int]
    HOLD_BATCH_FIELD_NUMBER: _ClassVar[int]
    RESUME_BATCH_FIELD_NUMBER: _ClassVar[int]
    INVALIDATE_FIELD_NUMBER: _ClassVar[int]
    cancel: Cancel
    cancel_batch: Batch
    hold_batch: Batch
    resume_batch: Batch
    invalidate: Invalidate
    def __init__(self, cancel: _Optional[_Union[Cancel, _Mapping]] = ..., cancel_batch: _Optional[_Union[Batch, _Mapping]] = ..., hold_batch: _Optional[_Union[Batch, _Mapping]] = ..., resume_batch: _Optional[_Union[Batch, _Mapping]] = ..., invalidate: _Optional[_Union[Invalidate, _Mapping]] = ...) -> None: ...

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

class Invalidate(_message.Message):
    __slots__ = ("tenant", "all_tenants", "source_id", "tag", "prefix", "model", "older_than", "dry_run", "by", "order")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    all_tenants: bool
    source_id: str
    tag: str
    prefix: str
    model: str
    older_than: _timestamp_pb2.Timestamp
    dry_run: bool
    by: str
    order: str
    def __init__(self, tenant: _Optional[str] = ..., all_tenants: _Optional[bool] = ..., source_id: _Optional[str] = ..., tag: _Optional[str] = ..., prefix: _Optional[str] = ..., model: _Optional[str] = ..., older_than: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dry_run: _Optional[bool] = ..., by: _Optional[str] = ..., order: _Optional[str] = ...) -> None: ...
