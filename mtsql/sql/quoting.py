"""Names and texts as they stand in SQL."""


def quote_name(name: str) -> str:
    """A name of any characters: `shop "A" id` is `"shop ""A"" id"`."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal: `St John's` is `'St John''s'`."""
    return "'" + text.replace("'", "''") + "'"
