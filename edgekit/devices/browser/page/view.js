// The result: the figures that the computer made of the samples, the checks, a histogram.

const at = (id) => document.getElementById(id);
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
const ms = (value) => value.toFixed(value < 10 ? 2 : 1);

function element(name, given = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, given);
  made.append(...children);
  return made;
}

const words = (row) => (row.length === null ? "a picture" : `${row.tokens} tokens`);
const setting = (row) => `${row.engine}, ${row.threads} ${row.threads > 1 ? "threads" : "thread"}`;

export function showResult({ file, profile }, found, seen, hidden) {
  const { rows, choice } = profile;
  const own = rows.filter((row) => row.engine === choice.engine && row.file === choice.file && row.threads === choice.threads);
  const shown = own.find((row) => row.length === 32) ?? own[0];
  at("best").textContent = ms(shown.p50_ms);
  at("best-what").textContent = `is what half of the answers to ${shown.length === null ? "a picture" : `a text of ${shown.tokens} tokens`} take at most, with ${setting(shown)}.`;
  at("picture").replaceChildren(histogram(shown.samples_ms), element("figcaption", { textContent: `${shown.runs} runs, ms each` }));
  const groups = grouped(rows, setting);
  at("right").textContent = verdict(found.checks, profile.failed);
  at("right").parentElement.classList.toggle("bad", !profile.verified.ok || profile.failed.length > 0);
  const told = Array.from(grouped(found.checks, setting), ([name, checks]) => check(name, checks));
  at("checks").replaceChildren(...told, ...profile.failed.map((one) => check(one.engine, [{ ok: false, what: one.file, detail: one.cause }])));
  at("tables").replaceChildren(...Array.from(groups, ([name, group]) => table(name, group)));
  const notes = ["Times are from text or picture to answer. p95: of 20 runs, 19 were faster."];
  if (seen.clock_ms >= 0.5) notes.push(`This browser's clock has steps of ${seen.clock_ms.toFixed(1)} ms.`);
  if (hidden) notes.push("The page was in the background for a while, so the times may be off.");
  if (rows.some((row) => !row.warmup_stable)) notes.push("Times had not settled when the warm-up ended.");
  if (seen.automated) notes.push("A program drives this browser, so its times stand for no phone.");
  at("notes").textContent = notes.join(" ");
  at("sent").textContent = `Saved on your computer as ${file}.`;
}

function grouped(rows, key) {
  const map = new Map();
  for (const row of rows) map.set(key(row), [...(map.get(key(row)) ?? []), row]);
  return map;
}

function verdict(checks, failed) {
  if (!checks.length) return "Nobody knows: the bundle has no golden vectors to compare with.";
  const wrong = checks.filter(({ ok }) => !ok).length + failed.length;
  return wrong ? `No: ${wrong} of ${checks.length + failed.length} checks failed.` : "Yes: the same as where the bundle was made, within its tolerance.";
}

function check(name, parts) {
  const ok = parts.every((part) => part.ok);
  const mark = element("span", { className: "mark", textContent: ok ? "✓" : "✗" });
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", ok ? "right" : "wrong");
  const details = parts.map(({ what, detail }) => element("small", { textContent: `${what}: ${detail}` }));
  const more = element("details", { open: !ok }, element("summary", { textContent: name }), ...details);
  return element("li", { className: ok ? "yes" : "no" }, mark, more);
}

function table(name, rows) {
  const cells = (kind, texts) => element("tr", {}, ...texts.map((text) => element(kind, { textContent: text, ...(kind === "th" && { scope: "col" }) })));
  const caption = element("caption", {}, name, " ", element("small", { textContent: `loaded in ${(rows[0].load_ms / 1000).toFixed(1)} s` }));
  const body = rows.map((row) => cells("td", [words(row), ms(row.first_ms), ms(row.p50_ms), ms(row.p95_ms), ms(row.max_ms)]));
  return element("table", {}, caption, element("thead", {}, cells("th", ["ms for", "first", "p50", "p95", "max"])), element("tbody", {}, ...body));
}

function svg(name, given, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Bars of how many runs took how long, from the fastest to the 99th percentile.
export function histogram(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const [low, high] = [sorted[0], sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))]];
  const [width, height, bins] = [320, 90, 24];
  const counts = Array(bins).fill(0);
  for (const value of sorted.filter((one) => one <= high)) counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low || 1)) * bins))] += 1;
  const most = Math.max(...counts);
  const bars = counts.map((count, i) => svg("rect", { x: (i * width) / bins + 1, width: width / bins - 2, rx: 2, y: height - (count / most) * height, height: (count / most) * height }));
  const axis = svg("line", { x1: 0, x2: width, y1: height + 0.5, y2: height + 0.5 });
  const text = (x, anchor, value) => svg("text", { x, y: height + 14, "text-anchor": anchor }, `${ms(value)} ms`);
  const label = `Histogram: most runs near ${ms(sorted[sorted.length >> 1])} ms, from ${ms(low)} to ${ms(sorted.at(-1))} ms`;
  return svg("svg", { viewBox: `0 0 ${width} ${height + 18}`, role: "img", "aria-label": label }, ...bars, axis, text(0, "start", low), text(width, "end", high));
}
