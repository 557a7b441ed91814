"""Names and texts as they stand in SQL."""

from mtsql.schema import Table


def quote_name(name: str) -> str:
    """A name of any characters: `shop "A" id` is `"shop ""A"" id"`."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal: `St John's` is `'St John''s'`."""
    return "'" + text.replace("'", "''") + "'"


def qualified(table: Table) -> str:
    """A table's name in quotes, with its schema where it needs one: `"sales"."order"`."""
    name = quote_name(table.name)
    return f"{quote_name(table.namespace)}.{name}" if table.namespace else name
