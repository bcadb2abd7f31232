"""Which failure belongs to which arrow of the data flow.

    producer ─▶ decode ─▶ router ─▶ claim ─▶ engine ─▶ result
                  │         │         │         │
              Malformed  Refused   conflict  EngineError

    Refused              the request cannot be served as it is: an error result, never retried
    ├── Malformed        its bytes are no request; without an id it goes to the dead letters
    EngineError          a model's call failed; `retryable` says whether the same call may succeed later

Anything else is a bug or a broken machine: the process ends and is started again, and Kafka gives its work back.
"""

from __future__ import annotations

from enum import StrEnum

from millpond.v1 import request_pb2, result_pb2


class Code(StrEnum):
    """Every value of `error.code`. docs/contract.md lists them; a test holds the two together."""

    # The bytes are no request.
    MALFORMED = "malformed"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_FIELD = "invalid_field"
    REQUEST_TOO_LARGE = "request_too_large"
    # The request cannot be served as it is.
    EMPTY_MESSAGES = "empty_messages"
    INVALID_TEXT = "invalid_text"
    INVALID_PARAMS = "invalid_params"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_FORBIDDEN = "model_forbidden"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    ID_CONFLICT = "id_conflict"
    # It could have been served.
    CACHE_MISS = "cache_miss"
    DEADLINE_PASSED = "deadline_passed"
    CANCELLED = "cancelled"
    ENGINE_ERROR = "engine_error"
    POISON = "poison"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    QUALITY_CHECK_FAILED = "quality_check_failed"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    RATE_LIMITED = "rate_limited"
    PROVIDER_REFUSED = "provider_refused"


class Refused(Exception):
    """The request cannot be served as it is. The message tells its writer what to change."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code

    def to_error(self) -> result_pb2.Error:
        return result_pb2.Error(code=self.code, message=str(self), retryable=False)


class Malformed(Refused):
    """The bytes are no request.

    identified: whether they are at least one object, so that a result can be addressed: with id, tenant and tier where
    they could be read, else with the id that its record gives it.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        identified: bool = False,
        id: str = "",
        tenant: str = "",
        tier: request_pb2.Tier = request_pb2.TIER_UNSPECIFIED,
    ) -> None:
        super().__init__(code, message)
        self.identified = identified
        self.id = id
        self.tenant = tenant
        self.tier = tier


class EngineError(Exception):
    """A model's call failed.

    after_s: seconds that the engine asked to wait before the next try, where it did.
    """

    def __init__(self, code: Code, message: str, *, retryable: bool, after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.after_s = after_s

    def to_error(self) -> result_pb2.Error:
        return result_pb2.Error(code=self.code, message=str(self), retryable=self.retryable)
