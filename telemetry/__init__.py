"""What Forebay shows of itself: the catalogue, and all code that speaks to OpenTelemetry, Prometheus and structlog."""
