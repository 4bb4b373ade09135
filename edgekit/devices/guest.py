"""The program that runs on an emulated board: JSON in on stdin, a line of JSON for each answer on stdout.

Needs only the device runtime.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from edgekit.errors import EdgekitError


def answers(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each of ``job["files"]`` in ``job["bundle"]``: its outputs for each of ``job["examples"]`` alone, one thread.

    ``outputs`` go by file, those of a dual encoder by its towers' files. Or {"error"}. An output is {"shape",
    "values"}: JSON holds float32 exactly, but not the width of an empty array.
    """
    from edgekit.bundle import open_bundle
    from edgekit.devices.examples import from_json
    from edgekit.runtimes import isa
    from edgekit.runtimes.golden import alone, files_of
    from edgekit.runtimes.load import load_file

    bundle = open_bundle(job["bundle"], check_hashes=False)
    models = {model.path: model for model in bundle.manifest.every_model}
    examples = [from_json(one) for one in job["examples"]]
    for file in job["files"]:
        try:
            model = load_file(bundle, models[file], threads=1)
            found = alone(model, examples)
        except EdgekitError as error:
            yield {"error": str(error)}
        except Exception as error:  # an engine may throw anything; the next file is to be answered all the same
            yield {"error": f"{type(error).__name__}: {error}"}
        else:
            outputs = {
                one: {"precision": precision, "values": [_told(output) for output in found.get(role, [])]}
                for role, (one, precision) in files_of(model).items()
            }
            yield {"isa": isa.detect(), "engine": model.engine, "outputs": outputs}


def _told(output: Any) -> dict[str, Any]:
    return {"shape": output.shape, "values": output.ravel().tolist()}


def check(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bundle's own verify, as a report in JSON."""
    from edgekit.runtimes.verify import verify

    yield verify(job["bundle"], threads=1).to_dict()


def mark(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs ``job["file"]`` on ``job["example"]``, one thread, with a call of getppid before each run and at the end:

    a counter outside of this process looks at its figures then (insncount.c). Two runs before that are not counted.
    """
    from edgekit.bundle import open_bundle
    from edgekit.devices.examples import from_json
    from edgekit.runtimes.load import load_file

    bundle = open_bundle(job["bundle"], check_hashes=False)
    model = load_file(bundle, next(one for one in bundle.manifest.models if one.path == job["file"]), threads=1)
    run: Callable[[Any], object] = model.run
    example = from_json(job["example"])
    for _ in range(2):
        run(example)
    for _ in range(job["runs"]):
        os.getppid()
        run(example)
    os.getppid()
    yield {"engine": model.engine, "precision": model.precision}


def main() -> int:
    """Read a job and print its answers as they come: whoever waits keeps those before a crash."""
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints must not spoil the answer
    do = answers if "files" in job else mark if "runs" in job else check
    for found in do(job):
        print(json.dumps(found), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
