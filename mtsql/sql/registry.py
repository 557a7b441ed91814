"""The databases that a pool knows: where each one is, and whether it is still the same."""

import asyncio
from hashlib import file_digest, sha256
from pathlib import Path

from mtsql.errors import DataError
from mtsql.sql.engine import ErrorKind, failed
from mtsql.sql.engines import URL, file_of, unmerged, why_missing
from mtsql.sql.records import QueryResult, QueryStatus

LOOK_EVERY_S = 1.0

Identity = tuple[int, int]
"""(mtime in ns, size in bytes) of a database file: what makes us look closer."""


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, as 64 hex digits."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def absolute(address: str | Path) -> str:
    """The same database for a process in another folder; a URL stays as it is."""
    is_url = URL.fullmatch(str(address)) is not None
    return str(address) if is_url else str(Path(address).absolute())


class Database:
    """One entry: a file, or a server, which may have changed without our seeing it.

    A file that changes makes every query on it a fault, until its old content is back: results
    before and after would not be about the same data.
    """

    def __init__(
        self, db_id: str, address: str | Path, *, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        """
        Args:
            look_every_s: how long a file is trusted to be the same one without looking.
        """
        self._look_every_s = look_every_s
        self.db_id = db_id
        self.address = absolute(address)
        self.path = file_of(self.address)
        self.digest = "" if self.path else sha256(self.address.encode()).hexdigest()
        """Hash of the content when it was first used; "" before."""
        self.identity: Identity = (0, 0)
        self.fault: QueryResult | None = None
        """What every query gets instead of a result."""
        self.look_at_s = float("-inf") if self.path else float("inf")
        """When the file must be looked at again, on the loop's clock."""
        self._lock = asyncio.Lock()

    def require(self) -> None:
        """Raises DataError when the file is missing, or does not hold all of the database.

        One that is no database at all is a fault of the queries on it.
        """
        why = why_missing(self.address)
        if why:
            raise DataError(f"{self.path}: {why}; database {self.db_id!r} needs it")

    async def look(self, now_s: float) -> None:
        """Bring `identity` and `fault` up to date; hashing happens off the loop's thread."""
        if self.path is None:
            return
        async with self._lock:
            if now_s < self.look_at_s:
                return  # another caller has looked while this one waited
            try:
                facts = self.path.stat()
                identity = (facts.st_mtime_ns, facts.st_size)
                if unmerged(self.address) is not None:
                    self.identity = (0, 0)  # look closer when they are in the file
                    self.fault = self._unmerged()
                elif identity != self.identity:
                    digest = await asyncio.to_thread(file_sha256, self.path)
                    self.digest = self.digest or digest
                    self.identity = identity
                    self.fault = None if digest == self.digest else self._changed()
            except OSError:
                self.identity = (0, 0)
                message = f"the file of database {self.db_id!r} is gone"
                self.fault = failed(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, message)
            self.look_at_s = now_s + self._look_every_s

    def _unmerged(self) -> QueryResult:
        message = f"database {self.db_id!r} has changes that are not in its file yet"
        return failed(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_CHANGED, message)

    def _changed(self) -> QueryResult:
        message = f"the file of database {self.db_id!r} has changed since its first query"
        return failed(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_CHANGED, message)
