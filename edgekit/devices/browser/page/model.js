// A model file of a bundle, ready to answer: tokenizing, windows and aggregation as docs/bundle.md has them, around an engine.

import { transform } from "./pictures.js";
import { tokenizerOf } from "./words.js";

export class Model {
  // task: of the manifest; words: tokenizer.json parsed, or null; engine: what engines.js loaded.
  constructor(task, words, engine) {
    this.task = task;
    this.engine = engine;
    this.words = words && tokenizerOf(words);
  }

  // Windows of a text: {ids, tokens}, at most max_length long. Null where this page cannot read the tokenizer.
  windows(text) {
    return this.words && this.cut(this.words.body(text));
  }

  cut(body) {
    const { prefix, suffix } = this.words;
    const room = this.task.max_length - prefix.length - suffix.length;
    const wrap = (part) => ({ ids: [...prefix, ...part, ...suffix], tokens: part.length });
    if (this.task.task === "clip") return [wrap(body.slice(0, room))];
    if (body.length <= room) return [wrap(body)];
    const step = room - this.task.stride;
    const found = [];
    for (let first = 0; first < body.length - room + step; first += step) found.push({ ...wrap(body.slice(first, first + room)), first });
    return found;
  }

  async forward(windows) {
    const found = [];
    for (const { ids } of windows) found.push(await this.engine.text(ids));
    return found;
  }

  // One output a text: Float32Array (C) or (D). Not for tags.
  finish(windows, raw) {
    if (windows.length === 1) return raw[0].data;
    const sum = new Float32Array(raw[0].data.length);
    let total = 0;
    windows.forEach(({ tokens }, i) => {
      const weight = Math.max(1, tokens);
      total += weight;
      raw[i].data.forEach((value, j) => (sum[j] += value * weight));
    });
    const mean = sum.map((value) => value / total);
    return this.task.task === "embed" && this.task.normalize ? unit(mean) : mean;
  }

  async text(text, windows = this.windows(text)) {
    if (this.task.task === "tag") return this.tag(text);
    return this.finish(windows, await this.forward(windows));
  }

  // Scores of each word, (C) each: of its first piece, from the window where that is farthest from a cut edge.
  async tag(text) {
    const words = wordsOf(text);
    const pieces = words.map((word) => this.words.body(word));
    const windows = this.cut(pieces.flat());
    const raw = await this.forward(windows);
    const total = windows.at(-1).tokens + (windows.at(-1).first ?? 0);
    const classes = this.task.labels.length;
    const best = Array(total).fill(-1);
    const rows = Array(total);
    windows.forEach(({ tokens, first = 0 }, i) => {
      for (let j = 0; j < tokens; j++) {
        const left = first ? j : Infinity;
        const right = first + tokens < total ? tokens - 1 - j : Infinity;
        if (Math.min(left, right) <= best[first + j]) continue;
        best[first + j] = Math.min(left, right);
        const at = (this.words.prefix.length + j) * classes;
        rows[first + j] = raw[i].data.slice(at, at + classes);
      }
    });
    let token = 0;
    const scores = pieces.map((part) => {
      const row = part.length ? rows[token] : new Float32Array(classes);
      token += part.length;
      return row;
    });
    return { words, scores };
  }

  prepareImage(picture) {
    return transform(picture, this.task.pictures);
  }

  async image(picture) {
    return (await this.engine.image(this.prepareImage(picture))).data;
  }
}

// The words of a text, as Python's str.split() has them.
export function wordsOf(text) {
  return text.split(/[\t-\r\x1c-\x20\x85\p{Zs}\u2028\u2029]+/u).filter(Boolean);
}

export function unit(values) {
  const length = Math.max(1e-12, Math.hypot(...values));
  return values.map((value) => value / length);
}

// Logits to shares that sum to 1.
export function softmax(logits) {
  const most = Math.max(...logits);
  const raised = Array.from(logits, (value) => Math.exp(value - most));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / sum);
}

// Cosines to scores, as the bundle's `similarity` says: a softmax over the labels, or a sigmoid each.
export function scores(cosines, { logit_scale: scale, logit_bias: bias = null, temperature = 1 }) {
  const logits = cosines.map((cosine) => (cosine * scale) / temperature);
  return bias === null ? softmax(logits) : logits.map((one) => 1 / (1 + Math.exp(-(one + bias / temperature))));
}
