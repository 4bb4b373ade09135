// Fetches what is needed, then runs each engine, file and number of threads in a worker of its own.

import { threadsFor, wasmOf } from "./engines.js";
import { readGolden } from "./golden.js";
import { tokenizerOf } from "./words.js";

const LENGTHS = [16, 32, 128];
const MOST_THREADS = 4; // phones have about as many fast cores; more only add the slow ones

// A worker, one call at a time.
export class Session {
  constructor() {
    this.worker = new Worker("/page/worker.js");
    this.waiting = new Map();
    this.worker.onmessage = ({ data: { id, result, error, ...told } }) => {
      const { resolve, reject, tell } = this.waiting.get(id);
      if (error === undefined && result === undefined && "done" in told) return tell?.(told.done, told.p50);
      this.waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "the browser ended the worker"));
      this.waiting.clear();
    };
  }

  call(name, given, tell, transfer = []) {
    const id = crypto.getRandomValues(new Uint32Array(1))[0];
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, tell });
      this.worker.postMessage({ id, do: name, ...given }, transfer);
    });
  }

  close() {
    this.worker.terminate();
  }
}

export class Runner {
  constructor(about) {
    this.about = about;
    this.files = new Map();
    const cores = navigator.hardwareConcurrency || 1;
    this.threads = about.settings.threads.length ? about.settings.threads : [...new Set([1, Math.min(MOST_THREADS, cores)])];
    this.jobs = Object.entries(about.engines).flatMap(([engine, { reads }]) => {
      const own = about.models.filter((model) => model.engine === reads);
      const wanted = about.settings.files.length ? own.filter(({ path }) => about.settings.files.includes(path)) : own.slice(0, 1);
      const counts = [...new Set(this.threads.map((count) => threadsFor(engine, count)))];
      return wanted.flatMap((model) => counts.map((threads) => ({ engine, model, threads })));
    });
  }

  // {role: {path, inputs, output}} of a model file; of one without towers the role is "".
  towers(model) {
    return Object.keys(model.towers ?? {}).length ? model.towers : { "": model };
  }

  urls() {
    const paths = this.jobs.flatMap(({ model }) => [model.path, ...(model.parts ?? [])]);
    const common = ["golden.safetensors", "tokenizer.json", "prompts.safetensors"].filter((name) => name in this.about.sizes);
    const wasm = this.jobs.map(({ engine, threads }) => wasmOf(engine, threads));
    return [...new Set([...wasm, ...[...common, ...paths].map((path) => `/bundle/${path}`)])];
  }

  async download(tell) {
    const urls = this.urls();
    for (const [i, url] of urls.entries()) {
      tell(i / urls.length, url.split("/").pop());
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      this.files.set(url, new Uint8Array(await answer.arrayBuffer()));
    }
    const file = (name) => this.files.get(`/bundle/${name}`);
    const words = file("tokenizer.json");
    this.words = words ? JSON.parse(new TextDecoder().decode(words)) : null;
    this.tokenizer = this.words && tokenizerOf(this.words);
    this.golden = file("golden.safetensors")?.buffer ?? null;
  }

  async open({ engine, model, threads }) {
    const session = new Session();
    const bytes = Object.fromEntries([model.path, ...(model.parts ?? [])].map((path) => [path, this.files.get(`/bundle/${path}`)]));
    const wasm = this.files.get(wasmOf(engine, threads));
    const { task } = this.about;
    try {
      const told = await session.call("load", { engine, threads, wasm, bytes, words: this.words, task, parts: this.towers(model) });
      return { session, load_ms: told.load_ms };
    } catch (error) {
      session.close();
      throw error;
    }
  }

  // What each row of `model` is given.
  inputs(model) {
    const { task, settings } = this.about;
    const few = task.fixed_length ? [] : LENGTHS.filter((length) => length <= task.max_length);
    const lengths = settings.lengths.length ? settings.lengths : few.length ? few : [task.max_length];
    const texts = () => lengths.map((length) => ({ length, ...this.sample(length) }));
    const towers = this.towers(model);
    if ("" in towers) return texts();
    return [{ tower: "image", length: null, tokens: null }, ...(towers.text ? texts().map((one) => ({ ...one, tower: "text" })) : [])];
  }

  // A text of about `length` tokens out of the golden texts' words; where the page cannot cut texts, golden ids.
  sample(length) {
    const words = this.about.golden.texts?.join(" ").split(/\s+/).filter((word) => word && word.length < 20) ?? ["the"];
    if (this.tokenizer) {
      const room = length - this.tokenizer.prefix.length - this.tokenizer.suffix.length;
      let [text, tokens] = ["", 0];
      for (let i = 0; tokens < room && i < 10000; i++) {
        const longer = `${text} ${words[i % words.length]}`.trim();
        const count = this.tokenizer.body(longer).length;
        if (count <= room) [text, tokens] = [longer, count];
        else if (i >= words.length) break;
      }
      return { text, ids: null, tokens: tokens + length - room };
    }
    const golden = readGolden(this.golden);
    const all = Array.from({ length: golden.count }, (_, i) => Array.from(golden.ids(i)[0])).filter((ids) => ids.length > 2);
    const middle = all.flatMap((ids) => ids.slice(1, -1));
    const ids = [all[0][0], ...Array.from({ length: length - 2 }, (_, i) => middle[i % middle.length]), all[0].at(-1)];
    return { text: "", ids, tokens: length };
  }

  // Runs all jobs. tell(share, what, p50). Gives {rows, checks, failed}.
  async run(tell) {
    const found = { rows: [], checks: [], failed: [] };
    for (const [i, job] of this.jobs.entries()) {
      const { engine, model, threads } = job;
      const name = `${engine}, ${threads} ${threads > 1 ? "threads" : "thread"}`;
      const steps = this.inputs(model);
      const share = (done) => (i + done) / this.jobs.length;
      tell(share(0), `${name}: loading`);
      let opened;
      try {
        opened = await this.open(job);
        const { session, load_ms } = opened;
        if (this.golden) {
          tell(share(0.05), `${name}: checking answers`);
          const checks = await session.call("check", { about: { golden: this.about.golden, task: this.about.task }, golden: this.golden });
          found.checks.push(...checks.map((check) => ({ ...check, what: check.name, name: `${name}: ${check.name}`, engine, threads })));
        }
        for (const [j, { tokens, ...input }] of steps.entries()) {
          const what = `${name}: ${input.tower === "image" ? "pictures" : `${input.length} tokens`}`;
          const at = (done) => share(0.1 + (0.9 * (j + done)) / steps.length);
          tell(at(0), what);
          const row = await session.call("measure", { ...input, settings: this.about.settings }, (done, p50) => tell(at(done), what, p50));
          found.rows.push({ engine, file: model.path, threads, load_ms, tokens, ...row });
        }
      } catch (error) {
        found.failed.push({ engine, file: model.path, cause: `${threads} threads: ${error.message}`.slice(0, 300) });
      } finally {
        opened?.session.close();
      }
    }
    return found;
  }
}
