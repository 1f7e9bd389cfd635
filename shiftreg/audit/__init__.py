"""Append-only, tamper-evident events: who did what, when, to which digests, and why."""

from shiftreg.audit.events import GENESIS, AuditEvent
from shiftreg.audit.log import AuditLog
from shiftreg.audit.verification import AuditReport

__all__ = ["GENESIS", "AuditEvent", "AuditLog", "AuditReport"]
