// One model file in one engine with one number of threads; ended when it is done, so that the next one starts fresh.
// A classic worker, since LiteRT loads its script with importScripts. Messages: {id, do, ...} -> {id, result} or {id, error}.

let model;
let towers;
let pictures = []; // golden ones, for timing

const tasks = {
  async load({ engine, threads, wasm, bytes, words, task, parts }) {
    const start = performance.now();
    const [engines, { Model }] = await Promise.all([import("/page/engines.js"), import("/page/model.js")]);
    towers = parts;
    model = new Model(task, words, await engines.load(engine, { threads, wasm, towers, bytes, task }));
    return { load_ms: performance.now() - start, words: !!model.words };
  },

  async check({ about, golden }) {
    const { check, readGolden } = await import("/page/golden.js");
    const found = readGolden(golden);
    if (towers.image) pictures = Array.from({ length: found.count }, (_, i) => found.picture(i));
    return check(model, towers, about, found);
  },

  // A text of `length` tokens, made of the golden texts' words; or pictures.
  async measure({ tower, length, text, ids, settings }, tell) {
    const { measure } = await import("/page/measure.js");
    let turn = 0;
    const given = tower === "image" ? null : text;
    const once = async () => {
      const start = performance.now();
      let [prepared, windows] = [null, null];
      if (given === null) prepared = model.prepareImage(pictures[turn++ % pictures.length]);
      else windows = model.words ? model.windows(given) : [{ ids, tokens: ids.length }];
      const ready = performance.now();
      const raw = given === null ? [await model.engine.image(prepared)] : await model.forward(windows);
      const answered = performance.now();
      finish(windows, raw);
      return { preprocess: ready - start, model: answered - ready, postprocess: performance.now() - answered };
    };
    const finish = await finisher();
    return { ...(await measure(once, settings, tell)), tower: tower || null, length };
  },

  text: ({ text, windows }) => (windows ? model.text(text, windows) : model.text(text)),
  image: ({ picture }) => model.image(picture),
};

// What turns outputs into an answer: probabilities, or unit length.
async function finisher() {
  const { softmax, unit } = await import("/page/model.js");
  const task = model.task.task;
  return (windows, raw) => {
    if (task === "tag") return softmax(raw[0].data.subarray(0, model.task.labels.length));
    const output = windows ? model.finish(windows, raw) : raw[0].data;
    return task === "classify" ? softmax(output) : unit(output);
  };
}

self.onmessage = async ({ data: { id, do: name, ...given } }) => {
  try {
    const result = await tasks[name](given, (done, p50) => self.postMessage({ id, done, p50 }));
    self.postMessage({ id, result });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error).slice(0, 300) });
  }
};
