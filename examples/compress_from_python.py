"""The pipeline from Python: python examples/compress_from_python.py RECIPE OUTPUT.edge"""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.compress import compress
from edgekit.recipe import load_recipe


def main(recipe: str, output: str) -> int:
    """Print what each stage did; 3 when the budget is missed, as the command line does."""
    result = compress(load_recipe(recipe), Path(output), overwrite=True)
    for stage in result.stages:
        print(f"{stage.stage}: {'kept' if stage.kept else 'rolled back'}: {stage.reason}")
    return 0 if result.budget_met else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
