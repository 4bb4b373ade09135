// Golden vectors: what the bundle's model files answered where they were made, and how near this browser comes.

import { cut, readTensors } from "./safetensors.js";

// {count, ids(i), picture(i), outputs(path)} of golden.safetensors. ids: lists of windows; outputs: rows by text.
export function readGolden(buffer) {
  const tensors = readTensors(buffer);
  const windows = cut(tensors.ids, tensors["ids.lengths"].data).map((rows) => rows.map((row) => row[0]));
  let next = 0;
  const texts = Array.from(tensors["ids.windows"].data, (count) => windows.slice(next, (next += count)));
  return {
    count: texts.length,
    ids: (i) => texts[i],
    picture(i) {
      const { shape: [height, width], data } = tensors[`picture.${i}`];
      return { width, height, data, channels: 3 };
    },
    outputs: (path) => tensors[`outputs.${path}`] && cut(tensors[`outputs.${path}`], tensors[`rows.${path}`].data),
  };
}

// Compares one model file, or its towers. Gives [{name, ok, detail}].
export async function check(model, towers, about, golden) {
  const checks = [];
  const texts = about.golden.texts;
  if (model.words && (towers.text ?? towers[""])) {
    const other = texts.filter((text, i) => JSON.stringify(model.windows(text).map(({ ids }) => ids)) !== JSON.stringify(golden.ids(i)));
    const detail = other.length ? `${other.length} of ${texts.length} texts give other token ids` : `${texts.length} texts give the golden token ids`;
    checks.push({ name: "tokenizer", ok: !other.length, detail });
  }
  for (const [role, { path }] of Object.entries(towers)) {
    const expected = golden.outputs(path);
    // No tolerance is of WebAssembly's instruction set, so the one stated for any other counts.
    const allowed = about.golden.tolerances.find((one) => one.file === path && one.isa === "*");
    if (!expected || !allowed) {
      checks.push({ name: `outputs ${path}`, ok: false, detail: "the bundle has no golden outputs or no tolerance for it" });
      continue;
    }
    if (about.task.task === "tag" && !model.words) {
      checks.push({ name: `outputs ${path}`, ok: false, detail: "not checked: this page cannot read the bundle's tokenizer" });
      continue;
    }
    let [largest, cosine] = [0, 1];
    for (let i = 0; i < golden.count; i++) {
      const rows = await answers(model, role, golden, i, texts[i]);
      if (rows.length !== expected[i].length) [largest, cosine] = [Infinity, -1];
      else rows.forEach((row, j) => {
        const [far, near] = difference(expected[i][j], row);
        [largest, cosine] = [Math.max(largest, far), Math.min(cosine, near)];
      });
    }
    const ok = largest <= allowed.max_abs && cosine >= allowed.min_cosine;
    const detail = `${golden.count} examples: max abs ${number(largest)} (at most ${number(allowed.max_abs)}), min cosine ${cosine.toFixed(6)} (at least ${allowed.min_cosine.toFixed(6)}); tolerance ${allowed.basis}`;
    checks.push({ name: `outputs ${path}`, ok, detail, max_abs: largest, min_cosine: cosine });
  }
  return checks;
}

async function answers(model, role, golden, i, text) {
  if (role === "image") return [await model.image(golden.picture(i))];
  if (model.task.task === "tag") return (await model.tag(text)).scores;
  const special = model.words ? model.words.prefix.length + model.words.suffix.length : 2;
  const windows = golden.ids(i).map((ids) => ({ ids: Array.from(ids), tokens: ids.length - special }));
  return [model.finish(windows, await model.forward(windows))];
}

function difference(golden, found) {
  if (golden.length !== found.length) return [Infinity, -1];
  let [largest, dot, a, b] = [0, 0, 0, 0];
  golden.forEach((value, i) => {
    if (!Number.isFinite(found[i])) largest = Infinity;
    largest = Math.max(largest, Math.abs(value - found[i]));
    dot += value * found[i];
    a += value * value;
    b += found[i] * found[i];
  });
  return [largest, (dot + 1e-12) / (Math.sqrt(a * b) + 1e-12)];
}

const number = (value) => (Number.isFinite(value) ? (value > 0 && value < 1e-3 ? value.toExponential(1) : value.toPrecision(3)) : "infinite");
