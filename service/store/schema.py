"""The tables of the state database: the one description that migrations and the in-memory database are made from.

Times are Unix seconds. A row that belongs to somebody carries tenant and user, and every query names both: the same
session id of another owner is another session. The order of messages is `seq`, given by the database.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, *, default: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


TENANTS = Table(
    "tenants",
    METADATA,
    Column("id", Text, primary_key=True),
    _time("created_at"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("hash"),  # SHA-256 of the whole key, hexadecimal; the key itself is nowhere
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    _text("user_id"),
    _text("roles"),  # separated by spaces
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("tenant_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    _time("created_at"),
    sqlite_with_rowid=False,
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("message_id", Text, nullable=False, unique=True),
    _text("tenant_id"),
    _text("user_id"),
    _text("session_id"),
    _text("role"),
    _text("status"),
    _text("text"),
    _text("model"),
    _text("instance_id"),  # who answers it; no foreign key: the row outlives the process
    _text("finish_reason", default=""),
    Column("prompt_tokens", Integer, nullable=False, server_default="0"),
    Column("generated_tokens", Integer, nullable=False, server_default="0"),
    _text("citations", default="[]"),  # JSON
    _text("error_code", default=""),
    Column("run", Integer, nullable=False, server_default="1"),  # how often it was begun: the fence of an ending
    _text("events", default="[]"),  # JSON: what a replay shows beside the text
    _time("created_at"),
    _time("updated_at"),
    ForeignKeyConstraint(
        ["tenant_id", "user_id", "session_id"], ["sessions.tenant_id", "sessions.user_id", "sessions.session_id"]
    ),
    Index(None, "tenant_id", "user_id", "session_id", "seq"),
    # What runs at this moment: a handful of rows, polled four times a second by each process.
    Index(
        "ix_messages_streaming",
        "instance_id",
        sqlite_where=text("status = 'streaming'"),
        postgresql_where=text("status = 'streaming'"),
    ),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("host"),  # one boot and one space of pids; "" where that cannot be known
    Column("pid", Integer, nullable=False),
    _text("started"),  # the kernel's start time of the pid: tells a recycled pid from the process
    _time("heartbeat_at"),
)

CANCEL_REQUESTS = Table(
    "cancel_requests",
    METADATA,
    Column("message_id", ForeignKey("messages.message_id"), primary_key=True),
    _time("requested_at"),
)

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("tenant_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _text("body_hash"),
    _text("message_id"),  # or the job's id, by route
    _text("user_message_id", default=""),
    _time("created_at"),
    Column("expires_at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

TOOL_CALLS = Table(
    "tool_calls",
    METADATA,
    Column("call_id", Text, primary_key=True),
    _text("idempotency_key"),
    Column("message_id", Text, nullable=False, index=True),
    _text("tenant_id"),
    _text("user_id"),
    _text("tool"),
    _text("state"),
    _text("arguments"),  # JSON, sanitised
    _text("arguments_digest"),
    Column("result", Text),
    _text("error_code", default=""),
    _text("decided_by", default=""),
    _text("instance_id"),
    _time("created_at"),
    _time("updated_at"),
    _time("expires_at", nullable=True),
    # What makes a side effect happen at most once: claimed by inserting it.
    UniqueConstraint("tenant_id", "user_id", "idempotency_key"),
    Index(None, "tenant_id", "state"),
)

ESCALATION_REVIEWS = Table(
    "escalation_reviews",
    METADATA,
    Column("tenant_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    _text("review_id"),
    _text("case_id"),
    _text("reasons"),  # letters, separated by spaces
    _text("opened_by"),
    _time("opened_at"),
    UniqueConstraint("tenant_id", "case_id"),
    sqlite_with_rowid=False,
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job_id", Text, nullable=False, unique=True),
    _text("tenant_id"),
    _text("user_id"),
    _text("roles"),  # of who asked, separated by spaces: it is done with their rights
    _text("key_id"),
    _text("kind"),
    _text("input"),  # JSON
    Column("priority", Integer, nullable=False),
    _text("trace"),  # JSON: W3C headers of the request that asked for it
    _text("status"),
    _text("worker_id", default=""),  # who works on it
    Column(
        "fence", Integer, nullable=False, server_default="0"
    ),  # how often it was claimed: an older one writes nothing
    _time("lease_until", nullable=True),
    _time("wakes_at"),  # not claimed before
    _time("cancel_requested_at", nullable=True),
    Column("recoveries", Integer, nullable=False, server_default="0"),  # claims after a lease that ran out
    _text("step", default=""),  # begun last
    Column("progress", Double, nullable=False, server_default="0"),  # from 0 to 1
    Column("events", Integer, nullable=False, server_default="0"),  # how many it has: the number of the last one
    Column("result", Text),  # JSON
    _text("error_code", default=""),
    _time("created_at"),
    _time("started_at", nullable=True),
    Column("ended_at", Double, index=True),
    Index(None, "tenant_id", "seq"),
    Index(
        "ix_jobs_queued",
        "tenant_id",
        sqlite_where=text("status = 'queued'"),
        postgresql_where=text("status = 'queued'"),
    ),
    Index(
        "ix_jobs_running",
        "worker_id",
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
)

# The checkpoint of a job: the steps that it has finished, each with its output.
JOB_STEPS = Table(
    "job_steps",
    METADATA,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("output", Text),  # JSON, once it is finished
    _time("finished_at", nullable=True),
)

JOB_EVENTS = Table(
    "job_events",
    METADATA,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    _text("type"),
    _time("at"),
    _text("data"),  # JSON
    sqlite_with_rowid=False,
)

# Whose job was begun when, in the order of beginnings: the next tenant is the one that waited longest.
JOB_TURNS = Table(
    "job_turns",
    METADATA,
    Column("tenant_id", Text, primary_key=True),
    Column("served", BigInteger, nullable=False),
)
