// Texts to token ids, as tokenizer.json says, for the two kinds that edgekit ships: BERT's WordPiece and CLIP's BPE.
// tests/devices/test_phone_words.py sets it beside the tokenizers library.

const SPACE = "\\t-\\r \\u0085\\p{Zs}\\p{Zl}\\p{Zp}"; // what Rust and Oniguruma call white space
const BLANK = new RegExp(`[${SPACE}]`, "u");
const BLANKS = new RegExp(`[${SPACE}]+`, "gu");
const CONTROL = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/u;
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}]/u;
const CHINESE = [
  [0x4e00, 0x9fff], [0x3400, 0x4dbf], [0x20000, 0x2a6df], [0x2a700, 0x2b73f], [0x2b740, 0x2b81f], [0x2b920, 0x2ceaf],
  [0xf900, 0xfaff], [0x2f800, 0x2fa1f],
];
// The one expression of CLIP's pre-tokenizer; \s stands for SPACE.
const CLIP = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;
const CLIP_WORDS = new RegExp(CLIP.replaceAll("\\s", SPACE), "gu");

// Letter by letter: as a whole text, JavaScript would give the last sigma of a word another form.
const lower = (text) => Array.from(text, (letter) => letter.toLowerCase()).join("");

// {encode(text) -> ids with the special ones, body(text) -> without, prefix, suffix}, or null for another kind.
export function tokenizerOf(file) {
  const pieces = piecesOf(file);
  const around = aroundOf(file.post_processor);
  const plain = (file.added_tokens ?? []).every((t) => !t.normalized && !t.lstrip && !t.rstrip && !t.single_word);
  if (!pieces || !around || !plain) return null;
  const added = addedOf(file.added_tokens ?? []);
  const body = (text) => added(text).flatMap((part) => (typeof part === "number" ? [part] : pieces(part)));
  const [prefix, suffix] = around;
  return { prefix, suffix, body, encode: (text) => [...prefix, ...body(text), ...suffix] };
}

// What cuts a text at added tokens, the first that is met, the longest where several begin: texts, and numbers of those.
function addedOf(tokens) {
  const numbers = new Map(tokens.map(({ content, id }) => [content, id]));
  const names = [...numbers.keys()].filter(Boolean).sort((a, b) => b.length - a.length);
  if (!names.length) return (text) => (text ? [text] : []);
  const found = new RegExp(names.map((name) => name.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  return (text) => {
    const parts = [];
    let from = 0;
    for (const match of text.matchAll(found)) {
      if (match.index > from) parts.push(text.slice(from, match.index));
      parts.push(numbers.get(match[0]));
      from = match.index + match[0].length;
    }
    if (from < text.length) parts.push(text.slice(from));
    return parts;
  };
}

function aroundOf(post) {
  if (post?.type === "TemplateProcessing") {
    const place = post.single.findIndex((one) => one.Sequence);
    const ids = (part) => part.flatMap((one) => post.special_tokens[one.SpecialToken.id].ids);
    return place < 0 ? null : [ids(post.single.slice(0, place)), ids(post.single.slice(place + 1))];
  }
  return ["BertProcessing", "RobertaProcessing"].includes(post?.type) ? [[post.cls[1]], [post.sep[1]]] : null;
}

function piecesOf({ normalizer, pre_tokenizer: before, model }) {
  if (model.type === "WordPiece" && normalizer?.type === "BertNormalizer" && before?.type === "BertPreTokenizer")
    return wordPiece(normalizer, model);
  const steps = normalizer?.normalizers?.map((one) => one.type).join() === "NFC,Replace,Lowercase";
  const [words, bytes] = before?.pretokenizers ?? [];
  const clip = steps && words?.type === "Split" && words.pattern.Regex === CLIP && words.behavior === "Removed" && words.invert;
  const spaces = normalizer?.normalizers?.[1];
  const usual = spaces?.pattern?.Regex === "\\s+" && spaces.content === " " && bytes?.type === "ByteLevel" && !bytes.add_prefix_space;
  return model.type === "BPE" && clip && usual && !model.dropout && !model.byte_fallback ? bytePairs(model) : null;
}

function wordPiece(normalizer, model) {
  const vocabulary = new Map(Object.entries(model.vocab));
  const unknown = vocabulary.get(model.unk_token);
  const accents = normalizer.strip_accents ?? normalizer.lowercase;
  const most = model.max_input_chars_per_word;
  const pieces = (word) => {
    const letters = Array.from(word);
    if (letters.length > most) return [unknown];
    const found = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length;
      let id;
      for (; end > start; end--) {
        id = vocabulary.get((start ? model.continuing_subword_prefix : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (end === start) return [unknown];
      found.push(id);
      start = end;
    }
    return found;
  };
  return (text) => bertWords(bertNormal(text, normalizer, accents)).flatMap(pieces);
}

function bertNormal(text, { clean_text: clean, handle_chinese_chars: chinese, lowercase }, accents) {
  let found = "";
  for (let letter of text) {
    if (clean) {
      const space = /[\t\n\r]/.test(letter) || BLANK.test(letter);
      if (!/[\t\n\r]/.test(letter) && (letter === "\0" || letter === "\ufffd" || CONTROL.test(letter))) continue;
      if (space) letter = " ";
    }
    const code = letter.codePointAt(0);
    found += chinese && CHINESE.some(([low, high]) => low <= code && code <= high) ? ` ${letter} ` : letter;
  }
  if (accents) found = found.normalize("NFD").replace(/\p{Mn}/gu, "");
  return lowercase ? lower(found) : found;
}

function bertWords(text) {
  const words = [];
  let word = "";
  const end = () => {
    if (word) words.push(word);
    word = "";
  };
  for (const letter of text) {
    if (BLANK.test(letter)) end();
    else if (PUNCTUATION.test(letter)) {
      end();
      words.push(letter);
    } else word += letter;
  }
  end();
  return words;
}

// Bytes as letters that can be seen: the printable ones are themselves, the others come after 255 (GPT-2's table).
const LETTERS = (() => {
  const shown = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(shown(byte) ? byte : next++));
})();

function bytePairs(model) {
  const vocabulary = new Map(Object.entries(model.vocab));
  const ranks = new Map(model.merges.map((pair, rank) => [typeof pair === "string" ? pair : pair.join(" "), rank]));
  const unknown = vocabulary.get(model.unk_token);
  const encoder = new TextEncoder();
  const known = new Map();
  const pieces = (word) => {
    if (known.has(word)) return known.get(word);
    const parts = Array.from(encoder.encode(word), (byte) => LETTERS[byte]);
    parts[parts.length - 1] += model.end_of_word_suffix ?? "";
    for (;;) {
      let best = Infinity;
      let place = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`);
        if (rank < best) [best, place] = [rank, i];
      }
      if (place < 0) break;
      parts.splice(place, 2, parts[place] + parts[place + 1]);
    }
    const ids = parts.map((part) => vocabulary.get(part) ?? unknown);
    known.set(word, ids);
    return ids;
  };
  return (text) => (lower(text.normalize("NFC").replace(BLANKS, " ")).match(CLIP_WORDS) ?? []).flatMap(pieces);
}
