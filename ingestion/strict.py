"""What every model of a declaration is made of: keys that must be known, and a few kinds of values.

YAML value -> checked and typed -> attribute of a frozen model

Left out: the models, which stand beside what they are for, and telling a fault (`declarations`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

_SPAN = re.compile(r"^\s*(\d+)\s*(second|minute|hour|day|week)s?\s*$")


def names(value: Any) -> Any:
    """A single name stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _span(value: Any) -> Any:
    """`3 days` as a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = _SPAN.match(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("span", 'a span such as "3 days", "6 hours" or "90 minutes"')
    return timedelta(**{f"{match.group(2)}s": int(match.group(1))})


Span = Annotated[timedelta, BeforeValidator(_span)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Text], BeforeValidator(names)]


class Strict(BaseModel):
    """A model that refuses keys that it does not know, and values of other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)
