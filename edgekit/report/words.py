"""The words around the numbers: what a section shows and how to read it, and what the terms mean."""

from __future__ import annotations

from typing import Any

from edgekit.report.charts import sensitivity_charts
from edgekit.report.dual import retrieval_rows
from edgekit.report.pareto import versions

INTRO = (
    "This report shows how a trained model was made small and fast enough for a small computer (a board), and what "
    "each step cost and gained. Every number says where it was measured, or how it was estimated."
)
LEADS = {
    "side": "The last model of each bundle beside the others; latencies compare only where the machine is the same.",
    "budget": "The bounds that were asked for, and what was found.",
    "stages": "Each row is one step. A step stays if it lost no more accuracy than allowed and made the model smaller "
    "or faster; one that did not is rolled back.",
    "ladder": "Every rung that the bundle holds, each by its fastest file. A stream goes down a rung when deadlines "
    "are missed or the board is hot.",
    "pareto": "Each mark is one version of the model: higher is more often right, further left is faster. The line "
    "joins those that no other beats in both.",
    "boards": "The same bundle on each computer that it was tried on. Latency is the time from input to answer: half "
    "of the runs were faster than p50, 95 of 100 faster than p95.",
    "board": "All that was tried there, at every number of threads and input length.",
    "histograms": "How often an inference took how long: one narrow hill is a steady time, a long tail to the right "
    "means pauses.",
    "memory": "The most memory that the process held, with Python and the engine in it.",
    "sustained": "A long run without a pause. A board that gets too hot lowers its clock: the latency then rises and "
    "the clock falls. Bands mark where it throttled; the scales do not start at 0.",
    "operators": "Where the time of one inference goes, by operator, and on which processor it ran.",
    "engines": "The same model in a file for each engine, the preferred one first; a board needs only one of them.",
    "size": "What the bytes of the bundle are. A board copies the files of one engine only.",
    "parity": "How alike the files answer: a cosine of 1 is the same answer; the share is how often the first answer "
    "was the same.",
    "sensitivity": "What happens to the answers when only this matrix is stored in 8 bits: the longer the bar, the "
    "more it costs.",
    "candidates": "Every way to 8 bits that was tried, and why it was taken or left.",
    "retrieval": "How often what belongs together is found among the first 1, 5 and 10, on the test part.",
    "towers": "Pictures and texts have a file each; its p50 is of that file alone, as the quantizer timed it.",
    "prompts": "The labels that the bundle knows without its text file.",
    "basis": "Measured numbers come from a run on a named machine; estimated ones from a named method. A latency says "
    "nothing of another processor.",
    "made": "Where the model and the data came from, under which licences, and the fingerprints to check them by.",
    "words": "The terms of this report, in plain words.",
}
_TERMS = {
    "teacher": "the model that came in, which the small one learns from and is compared with",
    "stage": "one step: teach and distill train, vocabulary and prune cut, export writes a file for an engine, "
    "quantize stores it in 8 bits, pack puts the bundle together",
    "engine": "the program that runs a model file on a board: onnxruntime, OpenVINO, LiteRT",
    "fp32, w8a8": "how numbers are stored: in 32 bits, or weights and activations in 8",
    "p50, p95, p99": "half, 95 and 99 of 100 inferences took no longer than this",
    "points": "hundredths: from 91.0 % to 90.5 % are 0.5 points",
    "agreement": "how often the model gives the same answer as the teacher",
    "parity, cosine": "how near two answers are; 1 is the same direction",
    "golden vectors": "recorded answers that a board must give again, within a stated distance",
    "emulated": "run on another computer that imitates the board: answers are right, times are not, so none is shown",
}
_DUAL = {"recall": "how often the right picture or text is found first (R@1) or among the first few"}


_SECTIONS = (
    ("budget", "Budget", lambda data: data["budget"].get("bounds")),
    ("stages", "What each step bought", lambda data: data["stages"]),
    ("ladder", "Ladder", lambda data: data["ladder"]),
    ("retrieval", "Retrieval", lambda data: retrieval_rows(data["stages"])),
    ("pareto", "Accuracy against latency", lambda data: len(versions(data)) > 1),
    ("boards", "Boards", lambda data: data["boards"]),
    ("engines", "Files and engines", lambda data: True),
    ("size", "Size", lambda data: True),
    ("parity", "Parity", lambda data: data["parity"]),
    ("sensitivity", "Sensitivity", lambda data: sensitivity_charts(data["sensitivity"])),
    ("candidates", "Candidates for INT8", lambda data: data["candidates"]),
    ("basis", "Measured and estimated", lambda data: True),
    ("made", "Made from", lambda data: True),
)


def sections(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Key and heading of the sections that the report of a bundle has, in their order."""
    return [(key, heading) for key, heading, there in _SECTIONS if there(data)]


def terms(bundles: list[dict[str, Any]]) -> dict[str, str]:
    """Term -> plain words, of those that the reports of ``bundles`` use."""
    dual = any(bundle["task"].get("task") == "clip" for bundle in bundles)
    emulated = any(not board["timed"] for bundle in bundles for board in bundle["boards"])
    return {**{k: v for k, v in _TERMS.items() if k != "emulated" or emulated}, **(_DUAL if dual else {})}
