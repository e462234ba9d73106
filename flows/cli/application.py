"""The command line as a whole: its commands, its one error boundary and its exit codes."""

from __future__ import annotations

import os
import sys

import typer

from flows.cli import (
    audit,
    charting,
    data,
    incidents,
    keys,
    providers,
    public_register,
    reading,
    release,
    reprocess,
    requests,
    retention,
    review,
    running,
    vault,
    workspace,
)
from flows.cli.context import Context, workspace_from
from infra.hardening import install_hooks, install_safe_logging, safe_traceback
from schemas.errors import WardwatchError

INTERRUPTED = 130

app = typer.Typer(
    name="wardwatch",
    help="From encrypted hospital extracts to published indicators, without ever identifying anyone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    context: typer.Context,
    folder: str = typer.Option(
        "", "--workspace", envvar="WARDWATCH_WORKSPACE", help="The workspace folder.", metavar="DIR"
    ),
) -> None:
    context.obj = Context(workspace_from(folder))


for module in (
    workspace,
    data,
    running,
    reading,
    charting,
    review,
    reprocess,
    release,
    keys,
    vault,
    audit,
    incidents,
    retention,
    requests,
    public_register,
    providers,
):
    module.register(app)


def main() -> None:
    """Run the command line; every way out has a fixed exit code."""
    install_hooks()
    install_safe_logging()
    os.umask(0o077)
    try:
        # Without standalone mode the library turns a command's typer.Exit into a value that it returns.
        ended = app(standalone_mode=False)
    except WardwatchError as error:
        print(f"wardwatch: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("wardwatch: interrupted; what was begun is swept by the next run", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        # Typer's own complaints about a wrong call are made for people and hold only what was typed.
        show = getattr(error, "show", None)
        if show is not None and hasattr(error, "exit_code"):
            show()
            sys.exit(error.exit_code)
        print(f"wardwatch: {safe_traceback(error)}", file=sys.stderr)
        sys.exit(1)
    if isinstance(ended, int) and ended:
        sys.exit(ended)
