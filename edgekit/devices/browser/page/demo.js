// The live part: type a text and see the answer, or show the camera a thing and see which label fits.

import { scores, softmax, unit } from "./model.js";
import { readTensors } from "./safetensors.js";

const at = (id) => document.getElementById(id);
const TEXTS = { classify: "A charming, funny film that I would gladly see again.", tag: "Anna moved from Berlin to Lisbon", embed: "A quiet story, well told" };
const LABELS = "a person, a cup, a plant, a book, a keyboard, a window";

export async function startDemo(about, runner, job) {
  const { session } = await runner.open(job);
  const demo = { about, runner, session, task: about.task, own: !!runner.tokenizer };
  if (about.task.task === "clip") await pictures(demo, job);
  else texts(demo);
}

// One call at a time, the newest text last: typing is faster than some phones.
function latest(work) {
  let [busy, next] = [false, null];
  return async function ask(given) {
    if (busy) return void (next = given);
    busy = true;
    try {
      await work(given);
    } catch (error) {
      at("demo-note").textContent = error.message;
    }
    busy = false;
    if (next !== null) {
      const waiting = next;
      next = null;
      ask(waiting);
    }
  };
}

// The windows of a text that this page cannot cut itself.
async function hostWindows(text) {
  const answer = await fetch("/tokens", { method: "POST", body: text });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told.windows.map((ids) => ({ ids, tokens: Math.max(1, ids.length - 2) }));
}

const run = async ({ session, own }, text) => session.call("text", own ? { text } : { text, windows: await hostWindows(text) });

function texts(demo) {
  const { task } = demo;
  if (task.task === "tag" && !demo.own) {
    at("demo-note").textContent = "This page cannot cut texts for this model into words, so there is no live answer.";
    return;
  }
  at("demo-text").hidden = false;
  const where = demo.own ? "All of it happens in this browser." : "The text is cut into tokens on your computer; the model runs in this browser.";
  let before = null;
  const answer = latest(async (text) => {
    const start = performance.now();
    const found = await run(demo, text);
    const took = `${(performance.now() - start).toFixed(1)} ms. ${where}`;
    if (task.task === "classify") bars(task.labels, softmax(found));
    else if (task.task === "tag") tags(found, task.labels);
    else {
      if (before) bars(["as near to the text before as"], [Math.max(0, unit(found).reduce((sum, one, i) => sum + one * before[i], 0))], (one) => one.toFixed(3));
      before = unit(found);
    }
    at("demo-note").textContent = task.task === "embed" ? `${found.length} numbers in ${took}` : took;
  });
  at("words").value = demo.about.golden.texts?.find((text) => text.length > 20 && text.length < 90) ?? TEXTS[task.task];
  at("words").addEventListener("input", () => answer(at("words").value));
  answer(at("words").value);
}

async function pictures(demo, job) {
  const { task, about, runner, session } = demo;
  at("demo-picture").hidden = false;
  const bank = readBank(runner.files.get("/bundle/prompts.safetensors"));
  const text = !!runner.towers(job.model).text;
  at("labels").value = bank ? bank.names.slice(0, 12).join(", ") : LABELS;
  at("labels").readOnly = !text;
  let rows = null;
  const embed = async () => {
    const names = [...new Set(at("labels").value.split(",").map((name) => name.trim()).filter(Boolean))];
    rows = { names: [], vectors: [] };
    for (const name of names) {
      const known = bank?.names.indexOf(name) ?? -1;
      if (known >= 0) rows.vectors.push(bank.row(known));
      else if (text) {
        const found = [];
        for (const template of bank?.templates ?? task.similarity.templates) found.push(unit(await run(demo, template.replaceAll("{}", name))));
        rows.vectors.push(unit(found[0].map((_, i) => found.reduce((sum, one) => sum + one[i], 0))));
      } else continue;
      rows.names.push(name);
    }
  };
  let last = null;
  const look = latest(async (given) => {
    if (!rows) await embed();
    if (!rows.names.length) throw new Error("Give at least one label.");
    const picture = given ?? last;
    if (!picture) return;
    last = picture;
    const start = performance.now();
    const found = unit(await session.call("image", { picture }));
    const took = performance.now() - start;
    const values = scores(rows.vectors.map((row) => row.reduce((sum, one, i) => sum + one * found[i], 0)), task.similarity);
    const order = values.map((_, i) => i).sort((a, b) => values[b] - values[a]).slice(0, 5);
    bars(order.map((i) => rows.names[i]), order.map((i) => values[i]));
    at("demo-note").textContent = `${took.toFixed(0)} ms with resizing. Pictures stay in this browser.`;
  });
  at("labels").addEventListener("change", () => {
    rows = null;
    look(last);
  });
  at("file").addEventListener("change", async () => {
    const [file] = at("file").files;
    if (!file) return;
    try {
      look(draw(await createImageBitmap(file)));
    } catch {
      at("demo-note").textContent = "This browser cannot read that picture.";
    }
  });
  if (navigator.mediaDevices?.getUserMedia) camera(look);
  else at("file").setAttribute("capture", "environment"); // the phone's own camera app, where a page may not use it
  look(draw(await golden(about)));
}

// Whatever can be drawn, at its own size, as pixels.
function draw(source) {
  const canvas = at("shown");
  canvas.width = source.videoWidth || source.width;
  canvas.height = source.videoHeight || source.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  const { width, height, data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { width, height, data, channels: 4 };
}

function camera(look) {
  const button = at("camera");
  const video = at("video");
  let stream = null;
  button.hidden = false;
  button.addEventListener("click", async () => {
    if (stream) {
      stream.getTracks().forEach((track) => track.stop());
      stream = null;
      button.textContent = "Camera";
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 640 } });
    } catch (error) {
      at("demo-note").textContent = `No camera: ${error.message}`;
      return;
    }
    button.textContent = "Stop";
    video.srcObject = stream;
    await video.play();
    const frame = () => {
      if (!stream) return;
      look(draw(video));
      setTimeout(frame, 100);
    };
    frame();
  });
}

// The first golden picture, so that there is something to see.
async function golden(about) {
  const { readGolden } = await import("./golden.js");
  const buffer = await (await fetch("/bundle/golden.safetensors")).arrayBuffer();
  const { width, height, data } = readGolden(buffer).picture(0);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set([data[3 * i], data[3 * i + 1], data[3 * i + 2], 255], 4 * i);
  return createImageBitmap(pixels);
}

function readBank(bytes) {
  if (!bytes) return null;
  const { embeddings, about } = readTensors(bytes.buffer);
  const width = embeddings.shape[1];
  const { names, templates } = JSON.parse(new TextDecoder().decode(about.data));
  return { names, templates, row: (i) => embeddings.data.subarray(i * width, (i + 1) * width) };
}

const percent = (value) => `${(100 * value).toFixed(value > 0.0995 ? 0 : 1)} %`;

function bars(names, values, say = percent) {
  const list = at("answer");
  list.className = "answer";
  const order = names.map((_, i) => i).sort((a, b) => values[b] - values[a]);
  list.replaceChildren(...order.map((i) => {
    const [item, row, track, fill] = ["li", "div", "div", "div"].map((name) => document.createElement(name));
    row.className = "row";
    track.className = "track";
    for (const text of [names[i], say(values[i])]) row.append(Object.assign(document.createElement("span"), { textContent: text }));
    fill.style.setProperty("width", `${Math.round(100 * values[i])}%`);
    track.append(fill);
    item.append(row, track);
    return item;
  }));
}

function tags({ words, scores: rows }, labels) {
  const list = at("answer");
  list.className = "answer tags";
  list.replaceChildren(...words.map((word, i) => {
    const item = Object.assign(document.createElement("li"), { textContent: `${word} ` });
    const best = rows[i].indexOf(Math.max(...rows[i]));
    item.append(Object.assign(document.createElement("small"), { textContent: labels[best] }));
    return item;
  }));
}
