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


def requirement(extra: str = "") -> str:
    """Return what `pip install` takes, quoted for a shell, to install this package again with an extra.

    A package that was installed from a folder, an archive or a repository is named by that place, because only a
    released version can be found by its name.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    bracket = f"[{extra}]" if extra else ""
    try:
        origin = json.loads(distribution("ebbgate").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if url.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return f"'{unquote(urlsplit(url).path)}{bracket}'"
    if url:
        kind = origin.get("vcs_info", {}).get("vcs")
        return f"'ebbgate{bracket} @ {f'{kind}+' if kind else ''}{url}'"
    return f"'ebbgate{bracket}'" if bracket else "ebbgate"
