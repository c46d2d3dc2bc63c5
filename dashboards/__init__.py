"""Boards, alerts and SLOs as code; generated/ holds what Grafana and Prometheus read."""
