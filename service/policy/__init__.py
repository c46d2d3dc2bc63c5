"""Authorisation: Cedar policies, read and checked at start, asked by the flow and by the routes."""
