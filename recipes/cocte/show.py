"""`mtsql cocte show`: each view of a chain with its digest."""

import asyncio
from pathlib import Path

from mtsql.chains.chain import Chain
from mtsql.chains.decompose import chains_of
from mtsql.chains.digest import ViewDigest, digest_text, digest_view
from mtsql.chains.reading import read_chain
from mtsql.data.reflect import reflect
from mtsql.schema import Schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryStatus
from recipes.sql.table import writable

CELL_CHARS = 40
VIEW_CHARS = 4000


def show(
    sql: str,
    db_id: str,
    address: str | Path,
    limits: QueryLimits,
    *,
    num_rows: int,
    decompose: bool,
) -> bool:
    """Print the views of a query in order. Returns whether each of them has run.

    Args:
        num_rows: shown of a view.
        decompose: show the first chain that the rules make of it.

    Raises:
        ChainError: the text is no chain.
        DataError: the database cannot be read.
    """
    schema = reflect(db_id, address)
    chain = chains_of(sql, schema)[0] if decompose else read_chain(sql)
    digests = asyncio.run(_digests(chain, db_id, address, schema, limits))
    for view, digest in zip(chain.views, digests, strict=True):
        print(f"-- {view.name}" + (f": {view.rationale}" if view.rationale else ""))
        print(writable(view.sql))
        print(
            digest_text(
                digest,
                preview_rows=num_rows,
                preview_cell_chars=CELL_CHARS,
                preview_chars=VIEW_CHARS,
            )
        )
        print()
    return all(digest.result.status is QueryStatus.OK for digest in digests)


async def _digests(
    chain: Chain, db_id: str, address: str | Path, schema: Schema, limits: QueryLimits
) -> list[ViewDigest]:
    async with LocalPool({db_id: address}, num_workers=1) as pool:
        return [
            await digest_view(pool, db_id, chain.prefix(place), schema, limits)
            for place in range(1, len(chain.views) + 1)
        ]
