"""Numbers as people type them: ``100_000``, ``100,000``, ``1e5`` and ``100k`` are the same."""

import re
from decimal import Decimal

#: what may stand after a whole number
SUFFIXES = {"k": 10**3, "m": 10**6}

_WHOLE = re.compile(r"(\d+(_\d+)*|\d{1,3}(,\d{3})+)(\.\d+)?(e\+?\d{1,2}|[km])?", re.IGNORECASE | re.ASCII)


def exactly(text: str) -> Decimal | None:
    """
    >>> exactly("1.5k"), exactly("100,000"), exactly("1,5k")
    (Decimal('1500.0'), Decimal('100000'), None)

    :param text: that was typed
    :return: the number, without the errors of a float; None if it is none
    """
    text = text.strip().lower()
    if not _WHOLE.fullmatch(text):
        return None
    factor = SUFFIXES.get(text[-1], 1)
    return Decimal(text.rstrip("km").replace(",", "").replace("_", "")) * factor
