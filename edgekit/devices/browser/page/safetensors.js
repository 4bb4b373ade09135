// Reads safetensors files: an 8-byte length, a JSON header, then the numbers. docs/bundle.md says what a bundle holds.

const KINDS = { F32: Float32Array, I64: BigInt64Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array };

// {name: {shape, data}} of an ArrayBuffer; F16 tensors are passed over, as nothing here needs them.
export function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(header).filter(([name]) => name !== "__metadata__")) {
    if (!KINDS[dtype]) continue;
    tensors[name] = { shape, data: new KINDS[dtype](buffer.slice(8 + length + begin, 8 + length + end)) };
  }
  return tensors;
}

// The tensor's rows, cut into lists of as many as `sizes` says.
export function cut({ shape, data }, sizes) {
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  const found = [];
  let row = 0;
  for (const size of sizes) {
    found.push(Array.from({ length: size }, (_, i) => data.subarray((row + i) * width, (row + i + 1) * width)));
    row += size;
  }
  return found;
}
