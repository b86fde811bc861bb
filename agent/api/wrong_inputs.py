"""What is wrong with an input, in our words instead of the library's.

The input itself is never repeated: it may be long, and it may be secret.
"""

from collections.abc import Mapping
from typing import Any

#: Kind of error, as pydantic names it, -> what is wrong. Names in braces stand in the error's context.
_WORDS: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is not known here: take it out",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 19 digits",
    "int_type": "must be a whole number",
    "json_invalid": "is not JSON: {error}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be one of {expected}",
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "none_required": "must be null",
    "repeated_query": "may be given once",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be text that can be written as UTF-8",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "unknown_query": "is not known here: /docs lists what may be asked for",
    "value_error": "{error}",
}


def wrong_input(error: Mapping[str, Any]) -> str:
    """One error of a ``RequestValidationError`` in words."""
    context = error.get("ctx", {})
    words = _WORDS.get(str(error["type"]))
    if words is None:
        return str(error["msg"])
    try:
        return words.format_map(context)
    except KeyError:
        return str(error["msg"])
