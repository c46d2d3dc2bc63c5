"""Boards, alerts and SLOs as code; `python -m dashboards` writes what Grafana and Prometheus read."""

import warnings

# Grafana's newer schema can be imported by its version 12 and later only; this one by every Grafana in use. The SDK
# warns of that once, while it is imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import bargauge, dashboard  # noqa: F401  # all that warn, before anybody asks
