"""Numbers with their nouns."""


def counted(count: float, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1.

    >>> counted(1, "slot"), counted(2, "waiter"), counted(2, "process"), counted(0.5, "second")
    ('1 slot', '2 waiters', '2 processes', '0.5 seconds')
    """
    return f"{count:.15g} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
