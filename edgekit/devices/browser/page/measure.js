// The profile protocol for one input: warm-up until times are level, then at least so many runs and so many seconds.

const BLOCK = 5; // runs; two neighbouring blocks whose medians differ by less than LEVEL are level
const LEVEL = 0.05;
const LONGEST_MS = 10_000; // of a warm-up, on slow phones
const MOST_RUNS = 5000;

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

// once() runs one inference and gives the ms of its parts; tell(done, p50) is called with the share that is done.
export async function measure(once, { runs, seconds, warmup }, tell) {
  const first = sum(await once());
  const before = [];
  const until = performance.now() + LONGEST_MS;
  let stable = warmup === 0;
  while (before.length < warmup && !stable && performance.now() < until) {
    before.push(sum(await once()));
    if (before.length >= 2 * BLOCK && before.length % BLOCK === 0) {
      const [older, newer] = [median(before.slice(-2 * BLOCK, -BLOCK)), median(before.slice(-BLOCK))];
      stable = Math.abs(newer - older) <= LEVEL * older;
    }
  }
  const parts = { preprocess: [], model: [], postprocess: [] };
  const start = performance.now();
  let told = start;
  for (let done = 0; done < MOST_RUNS; ) {
    const found = await once();
    for (const name of Object.keys(parts)) parts[name].push(found[name]);
    done += 1;
    const now = performance.now();
    const passed = (now - start) / 1000;
    if (now - told > 100) {
      told = now;
      tell(Math.min(done / runs, seconds ? passed / seconds : 1), median(parts.model));
    }
    if (done >= runs && passed >= seconds) break;
  }
  return { first_ms: first, warmup: before.length, warmup_stable: stable, parts_ms: parts };
}

const sum = (parts) => parts.preprocess + parts.model + parts.postprocess;

// The smallest step that this browser's clock shows, in ms.
export function clockStep() {
  let least = Infinity;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    least = Math.min(least, now - start);
  }
  return least;
}
