"""The form of what comes in and goes out: strict, nothing unknown, cleaned of what cannot be stored."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from phoenix.domain.cleaning import clean_json

T = TypeVar("T")

# JSON has no type for these, so text is what they come as.
Id = Annotated[UUID, Field(strict=False)]


Cursor = Annotated[str, Query(max_length=500, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]


class Payload(BaseModel):
    """A request's body. Unknown members and members of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, str_max_length=200_000)

    @model_validator(mode="before")
    @classmethod
    def _cleaned(cls, value: Any) -> Any:
        return clean_json(value) if isinstance(value, dict) else value


class Answer(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[T]):
    """A part of a list. `next` goes into `cursor` of the next request; it is null at the end."""

    items: list[T]
    next: str | None = None
