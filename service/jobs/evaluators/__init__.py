"""The evaluators of finished turns. To add one: a file with a pure function, a row here."""

from __future__ import annotations

from service.jobs.evaluators.citation import CITATION
from service.jobs.evaluators.grounding import GROUNDING

EVALUATORS = (CITATION, GROUNDING)
