// The two engines behind one face, in a worker: load(...) gives {text(ids) -> {data, shape}, image(values) -> data}.
// ids: a list of token ids, without padding; values: Float32Array (3, size, size). data: Float32Array.

const BASE = "/engines/";

// A module of one relaxed SIMD instruction: LiteRT has faster builds where the browser takes it.
const RELAXED = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11);
export const relaxedSimd = () => WebAssembly.validate(RELAXED);

// The WebAssembly file that `engine` will ask for, so that it can be fetched before any clock runs.
export function wasmOf(engine, threads) {
  if (engine === "onnxruntime-web") return `${BASE}onnxruntime-web/dist/ort-wasm-simd-threaded.wasm`;
  return `${BASE}@litertjs/core/wasm/litert_wasm_${relaxedSimd() ? (threads > 1 ? "threaded_" : "") : "compat_"}internal.wasm`;
}

// How many threads `engine` can have here. LiteRT throws when asked for what the browser does not allow.
export function threadsFor(engine, wanted) {
  const shared = self.crossOriginIsolated && typeof SharedArrayBuffer !== "undefined";
  return shared && (engine === "onnxruntime-web" || relaxedSimd()) ? wanted : 1;
}

// towers: {"": model file} or {image, text}, each {path, inputs, output}; bytes: {path: Uint8Array}, all the files needed.
export async function load(engine, { threads, wasm, towers, bytes, task }) {
  const open = engine === "onnxruntime-web" ? await onnxruntime(threads, wasm) : await litert(threads, wasm);
  const runs = {};
  for (const [role, tower] of Object.entries(towers)) runs[role] = await open(tower, bytes, task);
  return { text: runs.text ?? runs[""], image: runs.image };
}

async function onnxruntime(threads, wasm) {
  const ort = await import(`${BASE}onnxruntime-web/dist/ort.wasm.min.mjs`);
  Object.assign(ort.env.wasm, { numThreads: threads, wasmBinary: wasm, wasmPaths: `${self.origin}${BASE}onnxruntime-web/dist/` });
  ort.env.logLevel = "error";
  return async ({ path, inputs, output }, bytes, task) => {
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    const beside = Object.entries(bytes).filter(([name]) => name !== path && name.startsWith(folder) && !name.endsWith(".onnx"));
    const externalData = beside.map(([name, data]) => ({ path: name.slice(folder.length), data }));
    const session = await ort.InferenceSession.create(bytes[path], { executionProviders: ["wasm"], ...(externalData.length && { externalData }) });
    const name = output || session.outputNames[0];
    const row = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    return async (given) => {
      let feeds;
      if (given instanceof Float32Array) {
        const side = Math.sqrt(given.length / 3);
        feeds = { [inputs[0]]: new ort.Tensor("float32", given, [1, 3, side, side]) };
      } else {
        const [ids, mask] = padded(given, task.fixed_length ? task.max_length : given.length, task.pad_id);
        feeds = { [inputs[0]]: row(ids), ...(inputs[1] && { [inputs[1]]: row(mask) }) };
      }
      const { data, dims } = (await session.run(feeds, [name]))[name];
      return { data, shape: dims };
    };
  };
}

async function litert(threads, wasm) {
  const place = `${self.origin}${BASE}@litertjs/core/wasm/`;
  // Read by the script that LiteRT loads: its threads are workers of that script, not of ours.
  const name = wasmOf("litert-web", threads).split("/").pop().replace(".wasm", ".js");
  const printErr = (line) => line.startsWith("INFO") || console.warn(line); // it tells all that goes well as an error
  self.Module = { wasmBinary: wasm, mainScriptUrlOrBlob: place + name, locateFile: (file) => place + file, printErr };
  const core = await import(`${BASE}@litertjs/core/dist/index.js`);
  await core.loadLiteRt(place, { threads: threads > 1 });
  return async ({ path, inputs, output }, bytes, task) => {
    const model = await core.loadAndCompile(bytes[path], { accelerator: "wasm", cpuOptions: { numThreads: threads } });
    const signatures = Object.entries(model.signatures);
    const lengths = signatures.map(([key]) => Number(key.match(/^tokens_(\d+)$/)?.[1])).filter(Boolean).sort((a, b) => a - b);
    const run = async (signature, feeds) => {
      const found = signature ? await model.run(signature, feeds) : await model.run(feeds);
      Object.values(feeds).forEach((tensor) => tensor.delete());
      const tensor = output ? found[output] : Object.values(found)[0];
      const data = Float32Array.from(await tensor.data());
      const shape = Array.from(tensor.type.layout.dimensions);
      Object.values(found).forEach((one) => one.delete());
      return { data, shape };
    };
    return (given) => {
      if (given instanceof Float32Array) {
        const side = Math.sqrt(given.length / 3);
        return run(null, { [inputs[0]]: new core.Tensor(given, [1, 3, side, side]) });
      }
      const wanted = task.fixed_length ? task.max_length : given.length;
      const length = lengths.length ? lengths.find((one) => one >= wanted) : model.getInputDetails()[0].shape[1];
      if (!length || length < wanted) throw new Error(`a text of ${wanted} tokens is more than the file takes`);
      const [ids, mask] = padded(padded(given, wanted, task.pad_id)[0], length, 0).map((row) => Int32Array.from(row));
      mask.fill(0, given.length);
      const feeds = { [inputs[0]]: new core.Tensor(ids, [1, length]) };
      if (inputs[1]) feeds[inputs[1]] = new core.Tensor(mask, [1, length]);
      return run(lengths.length ? `tokens_${length}` : null, feeds);
    };
  };
}

function padded(ids, length, filler) {
  const rest = length - ids.length;
  return [[...ids, ...Array(rest).fill(filler)], [...Array(ids.length).fill(1), ...Array(rest).fill(0)]];
}
