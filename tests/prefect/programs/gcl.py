"""`prefect gcl`, once for each JSON list of arguments on stdin; answers with code and output as JSON.

One process for all of them, because starting one takes seconds; the command itself is run as it is.
"""

import contextlib
import io
import json
import sys
import traceback
import warnings

warnings.simplefilter("ignore")

from prefect.cli import app  # type: ignore[import-not-found]  # noqa: E402


def main() -> None:
    """Run what is asked for, one after the other."""
    for line in sys.stdin:
        said = io.StringIO()
        code: object = 0
        sys.argv = ["prefect", "gcl", *json.loads(line)]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = app()
            except SystemExit as ended:
                code = ended.code
            except BaseException:
                traceback.print_exc()
                code = 1
        print(json.dumps([code or 0, said.getvalue()]), flush=True)


if __name__ == "__main__":
    main()
