"""
Messages of a rosbag2 SQLite file, row by row in the order they were written.

Read with plain SQL rather than through `rosbags`, which gives up at the first broken page: here
the rows around it are still used, and the file's index tells how many are missing.
"""
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from imn_world_model.data.storage import StorageReport, StoredMessage, printable

# Rows asked for one by one behind a broken page before the rest is given up.
MAX_MISSES = 20_000
# Ends the name of the log of rows that are not in the file yet.
PENDING = '-wal'
# Broken bytes in names and messages of SQLite itself fail to decode as text.
BROKEN = (sqlite3.Error, UnicodeDecodeError)


def read_sqlite(file: Path, name: Path, report: StorageReport) -> Iterator[StoredMessage]:
    """
    Go through a ``.db3`` file.

    :param file: what is read.
    :param name: what it is called in the report.
    :param report: gets what could not be read, and how many messages are missing.
    """
    try:
        with _readable(file) as place, closing(_connect(place)) as database:
            topics = {row[0]: (str(row[1]), str(row[2]), str(row[3])) for row in database.execute(
                'SELECT id, name, type, serialization_format FROM topics')}
            report.topics |= {topic: kind for topic, kind, _ in topics.values()}
            recorded, last = _extent(database)
            read: Counter[str] = Counter()
            orphans = 0
            for number, stamp, payload in _rows(database, last, name, report):
                if (number not in topics or not isinstance(stamp, int)
                        or not isinstance(payload, bytes)):
                    orphans += 1
                    continue
                topic, kind, encoding = topics[number]
                read[topic] += 1
                yield StoredMessage(topic, kind, encoding, stamp, payload)
            if orphans:
                report.fault(f'{name}: {orphans} rows are damaged or belong to no '
                                       'known topic')
            # The count from the index is 0 where the index itself is broken.
            lost = max(recorded - sum(read.values()), orphans)
            if lost > 0:
                report.whole = False
                # A lost row's topic is lost with it, unless the file has only one.
                topic = next(iter(read)) if len(topics) == 1 and read else '?'
                report.lost[topic] = report.lost.get(topic, 0) + lost
    except BROKEN as error:
        report.fault(f'{name} is cut off, corrupt or no recording ({error}); how much is lost is '
                     'not known')


def sqlite_topics(file: Path) -> set[str] | None:
    """:return: topics by the file's table; ``None`` where it is broken."""
    try:
        with _readable(file) as place, closing(_connect(place)) as database:
            return {str(row[0]) for row in database.execute('SELECT name FROM topics')}
    except BROKEN:
        return None


@contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """
    Where a database can be read: with rows of a crashed recorder SQLite wants to write beside it.

    :return: the file, or a copy of both in a temporary folder where its own cannot be written to.
    """
    pending = _pending(file)
    if pending is None or os.access(file.parent, os.W_OK):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix='imn-sqlite-') as folder:
        for one in (file, pending):
            shutil.copyfile(one, Path(folder) / one.name)
        yield Path(folder) / file.name


def _pending(file: Path) -> Path | None:
    """:return: the log of rows that a recorder which crashed had not yet put into the file."""
    pending = file.with_name(file.name + PENDING)
    return pending if pending.exists() and pending.stat().st_size else None


def _connect(file: Path) -> sqlite3.Connection:
    """:return: a read-only connection that sees the log of a recorder that crashed."""
    mode = 'mode=ro' if _pending(file) else 'immutable=1'
    database = sqlite3.connect(f'{file.resolve().as_uri()}?{mode}', uri=True,
                               check_same_thread=False)
    # Without this SQLite refuses a file that was cut off; nothing is written either way.
    database.execute('PRAGMA writable_schema = ON')
    database.text_factory = lambda text: printable(text.decode(errors='replace'))
    return database


def _extent(database: sqlite3.Connection) -> tuple[int, int]:
    """:return: number of rows and the last row's id, from the index on time where there is one."""
    try:
        indexes = [row[0] for row in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'messages' "
            "AND sql IS NOT NULL")]
        hint = f'INDEXED BY "{indexes[0]}"' if indexes else ''
        count, last = database.execute(
            f'SELECT COUNT(*), MAX(id) FROM (SELECT id FROM messages {hint} ORDER BY timestamp)'
        ).fetchone()
    except BROKEN:
        return 0, 0
    return count, last or 0


def _rows(database: sqlite3.Connection, last: int, name: Path,
          report: StorageReport) -> Iterator[tuple[Any, Any, Any]]:
    """:return: topic id, stamp and payload of every row that can be read."""
    here = -1
    try:
        for row in database.execute(
                'SELECT id, topic_id, timestamp, data FROM messages ORDER BY id'):
            if row[0] <= here or 0 < last < row[0]:   # such as a page that was read twice
                raise sqlite3.DatabaseError('pages out of order')
            here = row[0]
            yield row[1], row[2], row[3]
        return
    except BROKEN as error:
        rest = '' if last else ', how much is lost is not known'
        report.fault(f'{name} is cut off or corrupt after row {max(here, 0)} of {last or "?"} '
                     f'({error}); the readable rows are used{rest}')
    misses = 0
    for number in range(here + 1, last + 1):
        try:
            found = database.execute('SELECT topic_id, timestamp, data FROM messages '
                                     'WHERE id = ?', (number,)).fetchone()
        except BROKEN:
            found = None
        if found is None:
            misses += 1
            if misses > MAX_MISSES:
                return
            continue
        misses = 0
        yield found
