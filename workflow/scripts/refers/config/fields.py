"""Kinds of values that several parts of the config have."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if odd := re.search(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]", text):
        raise ValueError(f"contains the invisible character {odd[0]!r}; remove it")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
