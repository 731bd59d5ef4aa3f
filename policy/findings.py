"""The findings that are no operator: what each means and what to do, from `findings.toml`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policy.load import FOLDER, read_file
from policy.model import RuleID


class FindingText(BaseModel):
    """What one finding means, and what the artifact's maker can do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: RuleID
    meaning: str = Field(min_length=10)
    remedy: str = Field(min_length=5)


class FindingTexts(BaseModel):
    """The file `findings.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["executor.policy-findings/v1"] = Field(alias="schema")
    finding: tuple[FindingText, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _once_each(self) -> "FindingTexts":
        ids = [text.id for text in self.finding]
        if len(set(ids)) != len(ids):
            raise ValueError("a finding stands twice")
        return self


def load_findings() -> dict[str, FindingText]:
    """Read the texts of this distribution, by id.

    Raises:
        PolicyFileError: The file is missing or malformed.
    """
    return {text.id: text for text in read_file(FOLDER / "findings.toml", FindingTexts).finding}
