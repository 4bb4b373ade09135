"""``edgekit`` and ``python -m edgekit``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; where its own packages are missing, say which extra brings them."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        print(
            f"error: the edgekit command needs the package {error.name}, which is not installed. "
            "pip install 'edgekit[cli]' (an engine: 'edgekit[cli,onnxruntime]'; to compress: 'edgekit[compress]'). "
            "`import edgekit` works without it.",
            file=sys.stderr,
        )
        return 2
    from edgekit.cli.main import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
