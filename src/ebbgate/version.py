"""Which release this is, as its installed package says."""

from functools import cache


@cache
def version() -> str:
    """Return the version; reading the package's metadata takes some milliseconds."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("ebbgate")
    except PackageNotFoundError:
        return "0+unknown"
