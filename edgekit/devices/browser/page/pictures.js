// Pictures to pixel values: resize, cut, normalise, with Pillow's arithmetic (8 bits, coefficients of 22 bits), which a
// canvas does not have. tests/devices/test_phone_pictures.py sets it beside edgekit.runtimes.vision.

const BITS = 22;
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    // Keys 1981, with a = -0.5
    const d = Math.abs(x);
    if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
    return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
  }],
};

// For each of `count` places from `first` on, of a side of `from` pixels made `to` long: where its pixels begin, and their weights.
function weights(from, to, first, count, [support, filter]) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support * wide + 0.5));
    const end = Math.min(from, Math.trunc(centre + support * wide + 0.5));
    const raw = Array.from({ length: end - begin }, (_, j) => filter((begin + j - centre + 0.5) / wide));
    const sum = raw.reduce((a, b) => a + b, 0);
    const fixed = raw.map((w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)));
    return { begin, fixed: Float64Array.from(fixed) };
  });
}

const HALF = 2 ** (BITS - 1);
const clip = (sum) => Math.min(255, Math.max(0, Math.floor((sum + HALF) / 2 ** BITS)));

// Pixels {width, height, data, channels} (3 or 4 a pixel, the first three are read) to Uint8Array (size, size, 3).
export function resize({ width, height, data, channels }, spec) {
  const edge = spec.edge || spec.size;
  let [wide, high] = [edge, edge];
  if (spec.resize !== "squash") {
    if (width <= height) high = Math.trunc((edge * height) / width);
    else wide = Math.trunc((edge * width) / height);
  }
  const { size } = spec;
  const filter = FILTERS[spec.interpolation];
  const columns = weights(width, wide, Math.floor((wide - size) / 2), size, filter);
  const rows = weights(height, high, Math.floor((high - size) / 2), size, filter);
  const top = rows[0].begin;
  const bottom = rows.reduce((most, { begin, fixed }) => Math.max(most, begin + fixed.length), 0);
  // A side that keeps its length is left alone, and so not rounded.
  const narrow = new Uint8Array((bottom - top) * size * 3);
  for (let y = top; y < bottom; y++)
    for (let x = 0; x < size; x++) {
      const { begin, fixed } = columns[x];
      let [r, g, b] = [0, 0, 0];
      for (let j = 0, at = (y * width + begin) * channels; j < fixed.length; j++, at += channels) {
        r += fixed[j] * data[at];
        g += fixed[j] * data[at + 1];
        b += fixed[j] * data[at + 2];
      }
      const to = ((y - top) * size + x) * 3;
      narrow[to] = clip(r);
      narrow[to + 1] = clip(g);
      narrow[to + 2] = clip(b);
    }
  const found = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const { begin, fixed } = rows[y];
    for (let x = 0; x < size * 3; x++) {
      let sum = 0;
      for (let j = 0; j < fixed.length; j++) sum += fixed[j] * narrow[(begin - top + j) * size * 3 + x];
      found[y * size * 3 + x] = clip(sum);
    }
  }
  return found;
}

// The same to Float32Array (3, size, size): (value / 255 - mean) / std of each channel.
export function transform(picture, spec) {
  const pixels = resize(picture, spec);
  const area = spec.size * spec.size;
  const values = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const table = Float32Array.from({ length: 256 }, (_, v) => (v / 255 - spec.mean[channel]) / spec.std[channel]);
    for (let i = 0; i < area; i++) values[channel * area + i] = table[pixels[i * 3 + channel]];
  }
  return values;
}
