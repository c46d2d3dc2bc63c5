"""The thresholds of the service level objectives: one number for the service and for those who judge it.

The service makes each a bound of its histogram (service/translate.py), or 'how many were in time' could not be asked;
the objectives over them stand in dashboards/slos.py.
"""

from __future__ import annotations

FIRST_TOKEN_SECONDS = 3.0  # headers in to first token written; also the default budget of the first token
TOKEN_GAP_SECONDS = 1.0  # the longest silence of the model within one stream: longer feels broken to a reader
