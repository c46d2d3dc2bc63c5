"""What Forebay shows of itself: the catalogue, and the only code that speaks to OpenTelemetry, Prometheus and structlog."""
