"""The routes: how HTTP becomes a request of ours and how its answer becomes HTTP. Nothing is decided here."""

from __future__ import annotations

from service.api.build import build_api, endpoints

__all__ = ["build_api", "endpoints"]
