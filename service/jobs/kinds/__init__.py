"""The kinds of job that ship in here. The kind `chat` stands beside the turn that it runs, in service/chat."""

from __future__ import annotations

from service.jobs.kinds.document_ingestion import DOCUMENT_INGESTION
from service.jobs.kinds.evaluation import EVALUATION
from service.jobs.kinds.report import REPORT

KINDS = (DOCUMENT_INGESTION, EVALUATION, REPORT)
