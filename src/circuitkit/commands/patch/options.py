"""Options that several studies of `circuitkit patch` have."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

Direction = Literal["denoise", "noise"]
Spans = Annotated[list[str] | None, Parameter(name="--span", negative="")]
