"""The answer of a table for a spreadsheet."""

from starlette.responses import Response


class CsvResponse(Response):
    """RFC 4180."""

    media_type = "text/csv"
