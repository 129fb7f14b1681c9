"""Who publishes the results and under which licence: what no program can find out."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from refers.config.fields import Text
from refers.config.settings import Section, Unique


def _check_orcid(orcid: str) -> str:
    digits = orcid.replace("-", "")
    if not re.fullmatch(r"(\d{4}-){3}\d{3}[\dX]", orcid):
        raise ValueError(f"{orcid!r} is not an ORCID; write it as 0000-0002-1825-0097")
    # ISO 7064, MOD 11-2, as ORCID computes its last character
    total = 0
    for digit in digits[:-1]:
        total = 2 * (total + int(digit))
    if (expected := "0123456789X"[(12 - total % 11) % 11]) != digits[-1]:
        raise ValueError(f"{orcid!r}: an ORCID that begins so ends with {expected}; correct the wrong digit")
    return orcid


def _check_licence(name: str) -> str:
    # its table takes time to read, and few configs have the key
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        found = str(canonicalize_license_expression(name))
    except InvalidLicenseExpression:
        found = ""
    if not found or " " in found or found.startswith("LicenseRef-"):
        raise ValueError(f"{name!r} is not an SPDX identifier of a licence; write one, such as CC-BY-4.0")
    return found


class Author(Section):
    """A person who publishes the results."""

    name: Text
    orcid: Annotated[str, AfterValidator(_check_orcid)] | None = Field(
        None, description="Sixteen digits in four groups."
    )
    affiliation: Text | None = None


class Publication(Section):
    """What `snakemake crate` says of the study beside its results; nothing of it is guessed."""

    name: Text = Field(description="Title of the published results.")
    license: Annotated[str, AfterValidator(_check_licence)] = Field(
        description="SPDX identifier of the licence that the results are published under, such as CC-BY-4.0."
    )
    authors: list[Author] = Field([], description="In order; without them the crate names none.")
    encoders: Annotated[list[str], Unique] = Field(
        [],
        description="Methods whose encoder is packed into the crate; the others are in it by name and SHA-256. Read the data"
        " use agreement of MIMIC-CXR before you name one that learnt from it.",
    )
