"""Architectures that are not ours to ONNX through optimum's exporters, with the same proof as our own export."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.distill.foreign import Foreign
from edgekit.errors import MissingDependencyError, StageError
from edgekit.evaluate import spec_of
from edgekit.export.graph import Graph, save
from edgekit.export.parity import ExportReport, check
from edgekit.export.simplify import simplify
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

TASKS = {"embed": "feature-extraction", "classify": "text-classification", "tag": "token-classification"}
IDS, MASK = "input_ids", "attention_mask"


def export_optimum(
    torch_folder: Path, out: Path, config: ExportConfig, texts: list[str], progress: Progress = Silent()
) -> ExportReport:
    """Write ``out``/model.onnx and its records from the foreign model in ``torch_folder``, as ``export_onnx`` does.

    Inputs ``input_ids`` and ``attention_mask`` alone: segment ids are zeros inside of the graph, pooling and
    normalising are its last nodes. Raises MissingDependencyError without optimum, StageError when optimum has no
    exporter for the architecture or the file differs from torch by more than ``config`` allows.
    """
    began = time.perf_counter()
    model = Foreign.load(torch_folder)
    graph = trace(model, config.opset)
    out.mkdir(parents=True, exist_ok=True)
    save(graph, out / "model.onnx")
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, spec_of(model.config), "onnxruntime", "fp32")
    kind = model.inner.config.model_type
    details = {"opset": config.opset, "nodes": len(graph.graph.node), "exporter": f"optimum ({kind})"}
    return check(model, out, config, texts, began, details, progress)


def trace(model: Foreign, opset: int = 17) -> onnx.ModelProto:
    """``model`` as ONNX with dynamic batch and length. Errors as in :func:`export_optimum`."""
    found = _exported(model, opset)
    graph = Graph(found)
    _fill_segments(graph)
    _add_head(graph, model)
    graph.prune()
    simplify(found, reshapes=False)
    found.graph.name = "model"
    del found.metadata_props[:]
    onnx.checker.check_model(found, full_check=True)
    return found


def _exported(model: Foreign, opset: int) -> onnx.ModelProto:
    if find_spec("optimum") is None or find_spec("optimum.exporters") is None:
        raise MissingDependencyError(
            f"export of a {model.inner.config.model_type} model",
            found="no optimum with exporters",
            expected="the extra optimum",
            fix="pip install edgekit[optimum]",
        )
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    kind, task = model.inner.config.model_type, TASKS[model.config.task]
    try:
        from optimum.exporters.onnx import export
        from optimum.exporters.tasks import TasksManager

        maker = TasksManager.get_exporter_config_constructor(
            "onnx", model.inner, task=task, library_name="transformers"
        )
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on constants that the tracer takes; parity finds those that matter
            path = Path(folder) / "model.onnx"
            export(model.inner, maker(model.inner.config), path, opset=opset, disable_dynamic_axes_fix=True)
            return onnx.load(str(path))
    except Exception as error:  # optimum and the tracer raise many kinds
        raise StageError(
            f"optimum cannot export a {kind} model",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            expected="an architecture that `optimum-cli export onnx` knows",
        ) from None
    finally:
        logging.disable(before)


def _fill_segments(graph: Graph) -> None:
    """Every input beside ids and mask becomes zeros of the ids' shape."""
    inputs = {value.name for value in graph.proto.input}
    if not inputs >= {IDS, MASK} or inputs - {IDS, MASK, "token_type_ids"}:
        raise StageError("inputs of the exported graph", found=sorted(inputs), expected=f"{IDS}, {MASK}")
    if "token_type_ids" in inputs:
        zero = helper.make_tensor("value", TensorProto.INT64, [1], [0])
        nodes = [
            helper.make_node("Shape", [IDS], ["segments.shape"], "/segments/Shape"),
            helper.make_node("ConstantOfShape", ["segments.shape"], ["token_type_ids"], "/segments/Zeros", value=zero),
        ]
        graph.set_nodes([*nodes, *graph.proto.node])
    kept = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in graph.proto.input if v.name in (IDS, MASK)]
    del graph.proto.input[:]
    graph.proto.input.extend(sorted(kept, key=lambda value: value.name == MASK))


def _add_head(graph: Graph, model: Foreign) -> None:
    """Pooling and normalising for task embed; one output, named as our own files name it."""
    source = "last_hidden_state" if model.config.task == "embed" else "logits"
    if source not in {value.name for value in graph.proto.output}:
        raise StageError("outputs of the exported graph", found=[v.name for v in graph.proto.output], expected=source)
    axes: list[str | int | None] = ["batch", "length", None] if model.config.task == "tag" else ["batch", None]
    output, nodes = source, list(graph.proto.node)
    if model.config.task == "embed":
        output = "embeddings"
        nodes += _pooling(graph, model.config.pooling, "pooled" if model.config.normalize else output)
        axes[-1] = model.inner.config.hidden_size
        if model.config.normalize:
            least = graph.add_constant("head.least", np.array(1e-12, np.float32))
            last = graph.add_constant("head.last", np.array([-1], np.int64))
            nodes += [
                helper.make_node("Mul", ["pooled", "pooled"], ["head.squares"], "/head/Squares"),
                helper.make_node("ReduceSum", ["head.squares", last], ["head.square"], "/head/Square", keepdims=1),
                helper.make_node("Sqrt", ["head.square"], ["head.norm"], "/head/Norm"),
                helper.make_node("Max", ["head.norm", least], ["head.length"], "/head/Max"),
                helper.make_node("Div", ["pooled", "head.length"], [output], "/head/Div"),
            ]
    else:
        axes[-1] = len(model.config.labels)
    graph.set_nodes(nodes)
    del graph.proto.output[:]
    graph.proto.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, axes))


def _pooling(graph: Graph, pooling: str, result: str) -> list[onnx.NodeProto]:
    """The first token's state, or the mean over real tokens, as in Foreign.forward."""
    if pooling == "cls":
        first = graph.add_constant("head.first", np.array(0, np.int64))
        return [helper.make_node("Gather", ["last_hidden_state", first], [result], "/head/First", axis=1)]
    least = graph.add_constant("head.one_token", np.array(1, np.float32))
    one_axis = graph.add_constant("head.axis", np.array([1], np.int64))
    return [
        helper.make_node("Cast", [MASK], ["head.real"], "/head/Cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["head.real", one_axis], ["head.row"], "/head/Unsqueeze"),
        helper.make_node("MatMul", ["head.row", "last_hidden_state"], ["head.sums"], "/head/Sum"),
        helper.make_node("Squeeze", ["head.sums", one_axis], ["head.sum"], "/head/Squeeze"),
        helper.make_node("ReduceSum", ["head.real", one_axis], ["head.count"], "/head/Count", keepdims=1),
        helper.make_node("Max", ["head.count", least], ["head.tokens"], "/head/Least"),
        helper.make_node("Div", ["head.sum", "head.tokens"], [result], "/head/Mean"),
    ]
