"""Append-only, tamper-evident events: who did what, when, to which digests, and why."""

from shiftreg.audit.events import GENESIS, AuditEvent, Contents, Draft, Entry, EventStore
from shiftreg.audit.file_events import FileEvents
from shiftreg.audit.log import AuditLog, Cause, Checkpoint, current_actor
from shiftreg.audit.verification import AuditReport, PublicKeys
from shiftreg.audit.write_ahead import WriteAheadLog, WriteAheadRecord
