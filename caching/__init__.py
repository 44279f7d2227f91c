"""Content hash, code hash, cache keys and policies."""

if __name__.partition(".")[0] != "daskflow":
    raise ImportError(
        f"{__name__!r} is a folder of daskflow, not a package of its own; "
        f"import 'daskflow.{__name__}' instead"
    )
