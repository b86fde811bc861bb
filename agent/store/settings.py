"""What can be set of the store, and what it tells of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DAY_S = 86_400.0
#: The store's file in ``data_dir``.
DATABASE = "enlace.db"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Limits and intervals. The defaults are meant for a site of some hundred signals on a Raspberry Pi."""

    commit_s: float = 1.0  #: telemetry is committed in groups that are this far apart
    ack_s: float = 10.0  #: acknowledgements are written this far apart: losing one only repeats, writing costs a page
    pending_rows: int = 1_000_000  #: rows that wait for a commit; when more come, the oldest go and are counted
    block_rows: int = 65_536  #: a group of more rows makes several blocks; so many waiting rows are committed at once
    seal_s: float = 600.0  #: blocks of about this much time are made of the hot ones
    seal_rows: int = 600_000  #: or of so many rows
    raw_age_s: float = 30 * DAY_S  #: sealed raw data older than this is dropped, once it was acknowledged
    minute_age_s: float = 400 * DAY_S  #: age limit of the 1 min roll-ups
    hour_age_s: float = 3650 * DAY_S  #: age limit of the 1 h roll-ups
    max_bytes: int = 4 << 30  #: size of the file above which the oldest raw data goes, then the roll-ups
    retain_s: float = 3600.0  #: how often ages are looked at, and how long the wall clock must have run straight for it
    check_s: float = 5.0  #: time that the check of the file may take at start
    retry_max_s: float = 30.0  #: longest pause between tries while the disk is full or fails
    waiting_jobs: int = 100_000  #: events and the like that may wait for a commit
    page_bytes: int = 4096  #: page size of a new file
    wal_pages: int = 2000  #: pages in the write-ahead log above which it is copied into the file
    readers: int = 4  #: connections for reading
    ballast_bytes: int = 16 << 20  #: kept free for a full disk (``ballast.py``); 0: nothing is


@dataclass(frozen=True, slots=True)
class Opened:
    """How the store was found. ``moved_to`` is where an unusable file was put aside, ``reason`` why.

    ``evidence``: a file that was put aside, now or before, from which not all was taken yet that can be.
    """

    path: Path
    moved_to: Path | None = None
    reason: str = ""
    evidence: Path | None = None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures for health and metrics."""

    rows: int  #: raw rows in the store now
    pending_rows: int  #: rows that wait for their commit
    dropped_rows: int  #: rows dropped since the start, whatever the reason
    db_bytes: int
    wal_bytes: int
    commits: int  #: since the start
    written_bytes: int | None  #: by this whole process to storage since its start; None where the system does not say
    written: Mapping[str, int]  #: the same by component (``wear.COMPONENTS``), ``other`` as of the last hour
    written_a_day: float | None  #: bytes, on the mean of the last days; None before a day has passed
    lost_rows: int  #: rows dropped without having been confirmed, since the file was made
    ledger_bytes: int  #: what is never dropped
    evidence_bytes: int  #: files that were unusable and stand aside, and the copy of before an upgrade
    copy_bytes: int  #: of them the copy, which goes by itself
    max_bytes: int  #: the quota
    last_commit_s: float | None  #: monotonic
    error: str | None  #: why nothing can be stored now
    full: bool  #: the disk is full: telemetry waits in memory, the rest goes into the ballast's place while that lasts
