"""What libraries mean by names of dtypes that mean something else elsewhere."""

from __future__ import annotations

WORDS_OF_OTHERS: dict[str, dict[str, str]] = {"pyarrow": {"float": "float32"}}
"""By the package that a dtype is of, the words that mean something else without it; all others mean what they say.

`interop.backends` adds those of its libraries.
"""
