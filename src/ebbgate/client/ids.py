"""Random ids, made by the client for the whole life of what they name."""

import os


def new_id() -> str:
    """Return a random UUID; quicker than `uuid.uuid4`, which every acquisition would pay for."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
