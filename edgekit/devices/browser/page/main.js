// The page's course: the token for a session, what is to be measured, the run, the result, the demo.

import { startDemo } from "./demo.js";
import { clockStep } from "./measure.js";
import { Runner } from "./runner.js";
import { megabytes, showResult } from "./view.js";

const at = (id) => document.getElementById(id);
const show = (id, yes = true) => (at(id).hidden = !yes);

async function session() {
  const token = location.hash.slice(1);
  if (token) {
    history.replaceState(null, "", "/"); // it is used up, and no business of the history
    const answer = await fetch("/session", { method: "POST", body: token });
    if (!answer.ok) throw new Error((await answer.json()).error);
  }
  const about = await fetch("/about.json");
  if (about.status === 403) throw new Error("This page opens once, with the address or the QR code in the terminal. Run `edgekit phone` again for a new one.");
  return about.json();
}

// What the browser tells of the phone. The model only where the page is on https or on this machine.
async function device() {
  const hints = (await navigator.userAgentData?.getHighEntropyValues?.(["model", "platformVersion"]).catch(() => null)) ?? {};
  const agent = navigator.userAgent;
  const brand = navigator.userAgentData?.brands?.find(({ brand }) => !/Not.*Brand|Chromium/i.test(brand));
  const [, named, version] = agent.match(/(Firefox|CriOS|FxiOS|EdgA?|SamsungBrowser|Chrome|Version)\/([\d.]+)/) ?? [];
  const browser = brand ? `${brand.brand} ${brand.version}` : named ? `${named === "Version" ? "Safari" : named} ${version}` : "";
  const told = agent.match(/Android [\d.]+; ([^;)]+)/)?.[1]; // "K" where the browser keeps it to itself
  const system = (agent.match(/Android [\d.]+/) ?? agent.match(/iPhone OS [\d_]+|Windows NT [\d.]+|Mac OS X [\d_.]+|Linux/))?.[0] ?? "";
  return {
    model: hints.model || (told !== "K" && told) || "",
    os: hints.platformVersion ? `${hints.platform ?? "Android"} ${hints.platformVersion}` : system.replaceAll("_", "."),
    browser,
    user_agent: agent.slice(0, 400),
    cores: navigator.hardwareConcurrency ?? null,
    isolated: self.crossOriginIsolated,
    automated: !!navigator.webdriver,
    clock_ms: clockStep(),
    screen: `${screen.width} x ${screen.height} at ${devicePixelRatio}`,
  };
}

function plan(about, runner, seen) {
  at("name").textContent = about.name;
  const { task } = about.task;
  at("what").textContent = { classify: `sorts texts into ${about.task.labels.length} classes`, embed: "turns texts into vectors", tag: "labels words", clip: "compares pictures and texts" }[task];
  const engines = Object.entries(about.engines).map(([name, { version }]) => `${name} ${version}`).join(" and ");
  const models = [...new Set(runner.urls().filter((url) => url.startsWith("/bundle/")))].map((url) => about.sizes[url.slice(8)]);
  const bytes = Object.values(about.engines).reduce((sum, one) => sum + one.bytes, 0) + models.reduce((a, b) => a + b, 0);
  at("plan").textContent = `Loads about ${megabytes(bytes)}, checks the answers and times them with ${engines}.`;
  at("context").textContent = self.crossOriginIsolated
    ? `With ${[...new Set(runner.jobs.map((job) => job.threads))].join(" and ")} threads.`
    : "With one thread, as this address is plain http. `edgekit phone --https` allows more.";
  for (const [key, name] of Object.entries(about.phones)) at("phone").add(new Option(name, key));
  const known = Object.entries(about.phones).find(([, name]) => seen.model && name.toLowerCase().endsWith(seen.model.toLowerCase()));
  if (known) at("phone").value = known[0];
}

async function run(about, runner, seen) {
  let hidden = false;
  const watch = () => (hidden ||= document.hidden);
  document.addEventListener("visibilitychange", watch);
  const awake = await navigator.wakeLock?.request("screen").catch(() => null);
  show("start", false);
  show("run");
  at("run-title").tabIndex = -1;
  at("run-title").focus();
  const began = performance.now();
  let told = "";
  const tell = (share, what, p50) => {
    at("bar").value = share;
    if (what !== told) at("step").textContent = told = what;
    at("now").textContent = p50 ? `${p50.toFixed(p50 < 10 ? 2 : 1)} ms` : "";
    const left = ((performance.now() - began) / 1000) * (1 / share - 1);
    at("left").textContent = share > 0.15 ? `about ${Math.max(1, Math.round(left))} s left` : "";
  };
  await runner.download((share, file) => tell(share * 0.1, `loading ${file}`));
  const found = await runner.run((share, what, p50) => tell(0.1 + share * 0.9, what, p50));
  document.removeEventListener("visibilitychange", watch);
  await awake?.release();
  if (!found.rows.length) throw new Error(found.failed.map(({ engine, cause }) => `${engine}: ${cause}`).join("; ") || "nothing could be measured");
  const posted = { rows: found.rows, failed: found.failed, checks: found.checks, board: at("phone").value, environment: { ...seen, hidden } };
  const answer = await fetch("/profile", { method: "POST", body: JSON.stringify(posted) });
  const kept = await answer.json();
  if (!answer.ok) throw new Error(`The measurements were not taken: ${kept.error}`);
  show("run", false);
  show("result");
  showResult(kept, found, seen, hidden);
  at("result-title").tabIndex = -1;
  at("result-title").focus();
  const choice = kept.profile.choice;
  const job = runner.jobs.find(({ engine, model, threads }) => engine === choice.engine && model.path === choice.file && threads === choice.threads);
  show("demo");
  await startDemo(about, runner, job);
}

function trouble(error) {
  for (const id of ["start", "run"]) show(id, false);
  at("trouble-text").textContent = error.message ?? String(error);
  if (at("name").textContent.endsWith("…")) at("name").textContent = "Not connected";
  show("trouble");
}

try {
  const about = await session();
  const runner = new Runner(about);
  const seen = await device();
  plan(about, runner, seen);
  show("start");
  at("go").addEventListener("click", () => run(about, runner, seen).catch(trouble), { once: true });
} catch (error) {
  trouble(error);
}
