"""Windows, aggregation and words of the page beside the runtime, both around the same stand-in for an engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle.records import TaskSpec
from edgekit.runtimes.pipeline import TextPipeline
from edgekit.runtimes.preprocess import TextPreprocessor
from tests.devices.page import run_page

TEXTS = [
    "", "a film", "the plot is thin and the jokes fall flat, as they would in an unrehearsed play put on by uncles",
    "no", "word " * 40, "antidisestablishmentarianism incomprehensibilities floccinaucinihilipilification " * 3,
    "a\u200bb \ufffd x \u00a0 y",
    "I would watch it again tomorrow, and so would everyone I know who likes a quiet story",
]  # fmt: skip
LABELS = ["O", "A", "B"]
RUN = """
import { Model } from "./model.js";
const [words, task, texts] = [2, 3, 4].map((i) => JSON.parse(fs.readFileSync(process.argv[i])));
const C = 3;
const engine = { async text(ids) {
  if (task.task === "tag") {
    const rows = ids.flatMap((id, t) => [0, 1, 2].map((c) => ((id * (c + 3) + t) % 89) / 89));
    return { data: Float32Array.from(rows), shape: [1, ids.length, C] };
  }
  const sum = ids.reduce((a, id, t) => a + id * (t + 1), 0);
  return { data: Float32Array.from([0, 1, 2], (c) => ((sum * (c + 1)) % 97) / 97), shape: [1, C] };
} };
const model = new Model(task, words, engine);
const found = [];
for (const text of texts) {
  const answer = await model.text(text);
  found.push(task.task === "tag" ? answer.scores.map((row) => Array.from(row)) : Array.from(answer));
}
console.log(JSON.stringify({ found, windows: texts.map((text) => model.windows(text).map(({ ids }) => ids)) }));
"""


def forward(tag: bool) -> Any:
    """The stand-in: outputs that depend on every token and its place."""

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        place, classes = np.arange(ids.shape[1]), np.arange(3)
        if tag:
            return ((ids[:, :, None] * (classes + 3) + place[None, :, None]) % 89 / 89).astype(np.float32)
        total = (ids * (place + 1)).sum(1, keepdims=True)
        return (total * (classes + 1) % 97 / 97).astype(np.float32)

    return run


@pytest.mark.parametrize("task", ["classify", "embed", "tag"])
@pytest.mark.parametrize("stride", [0, 5])
def test_texts_of_any_length(minilm: Path, tmp_path: Path, task: str, stride: int) -> None:
    spec = TaskSpec(task, [] if task == "embed" else LABELS, 12, stride, normalize=task == "embed")
    shutil.copyfile(minilm / "tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "task.json").write_text(json.dumps(spec.to_dict()))
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    told = run_page(tmp_path, RUN, *(tmp_path / f"{name}.json" for name in ("tokenizer", "task", "texts")))
    words = TextPreprocessor(tmp_path / "tokenizer.json", spec)
    assert told["windows"] == [[window.ids for window in words.windows([text])] for text in TEXTS]
    expected = TextPipeline(words, forward(task == "tag"), batching=False).outputs(TEXTS)
    for text, mine, theirs in zip(TEXTS, told["found"], expected, strict=True):
        rows = np.array(mine, np.float32).reshape(theirs.shape)
        assert np.abs(rows - theirs).max(initial=0) <= 1e-6, text
