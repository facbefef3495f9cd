// A QR code (ISO/IEC 18004) of a text as SVG: byte mode, error correction level M, versions 1 to 20. Its own,
// because the secret of an authenticator must not be shown to any service or library of somebody else.

// Of level M, by version: error correction bytes of each block, and blocks.
const CHECK_BYTES = [0, 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26];
const BLOCKS = [0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16];

const sizeOf = (version) => 4 * version + 17;

/** Modules that carry data or error correction. */
function dataModules(version) {
  let n = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const marks = Math.floor(version / 7) + 2;
    n -= (25 * marks - 10) * marks - 55;
  }
  return version >= 7 ? n - 36 : n;
}

const dataBytes = (version) => Math.floor(dataModules(version) / 8) - CHECK_BYTES[version] * BLOCKS[version];

// ---- Reed-Solomon over GF(256), 0x11d

function times(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i--) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> i) & 1) * a;
  }
  return product;
}

function generator(degree) {
  const g = new Array(degree).fill(0);
  g[degree - 1] = 1;
  for (let i = 0, root = 1; i < degree; i++, root = times(root, 2))
    for (let k = 0; k < degree; k++)
      g[k] = times(g[k], root) ^ (k + 1 < degree ? g[k + 1] : 0);
  return g;
}

function checkBytes(data, g) {
  const rest = new Array(g.length).fill(0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    g.forEach((c, i) => { rest[i] ^= times(c, factor); });
  }
  return rest;
}

// ---- text to bytes in the order of the symbol

function pack(bytes, version) {
  const bits = [];
  const put = (value, n) => {
    for (let i = n - 1; i >= 0; i--)
      bits.push((value >> i) & 1);
  };
  const room = 8 * dataBytes(version);
  put(4, 4); // byte mode
  put(bytes.length, version < 10 ? 8 : 16);
  bytes.forEach((b) => put(b, 8));
  put(0, Math.min(4, room - bits.length));
  put(0, (8 - bits.length % 8) % 8);
  for (let filler = 0xec; bits.length < room; filler ^= 0xec ^ 0x11)
    put(filler, 8);
  return Array.from({ length: room / 8 }, (_, i) => bits.slice(8 * i, 8 * i + 8).reduce((v, b) => 2 * v + b, 0));
}

function interleave(data, version) {
  const n = BLOCKS[version], short = Math.floor(data.length / n), nShort = n - data.length % n;
  const g = generator(CHECK_BYTES[version]), blocks = [], out = [];
  for (let i = 0, at = 0; i < n; i++) {
    const len = short + (i < nShort ? 0 : 1);
    blocks.push(data.slice(at, at + len));
    at += len;
  }
  for (let i = 0; i <= short; i++)
    for (const block of blocks)
      if (i < block.length)
        out.push(block[i]);
  const checks = blocks.map((block) => checkBytes(block, g));
  for (let i = 0; i < g.length; i++)
    for (const check of checks)
      out.push(check[i]);
  return out;
}

// ---- modules

/** A square of undefined (free), true (dark) or false (light), with all that is not data. */
function pattern(version) {
  const size = sizeOf(version), m = Array.from({ length: size }, () => new Array(size));
  for (let i = 0; i < size; i++)
    m[6][i] = m[i][6] = i % 2 === 0;
  const finder = (x, y) => {
    for (let dy = -4; dy <= 4; dy++)
      for (let dx = -4; dx <= 4; dx++) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        if (m[y + dy] && x + dx >= 0 && x + dx < size)
          m[y + dy][x + dx] = ring !== 2 && ring !== 4;
      }
  };
  finder(3, 3);
  finder(size - 4, 3);
  finder(3, size - 4);
  const marks = alignment(version);
  marks.forEach((y, i) => marks.forEach((x, k) => {
    const last = marks.length - 1;
    if ((i === 0 && k === 0) || (i === 0 && k === last) || (i === last && k === 0))
      return;
    for (let dy = -2; dy <= 2; dy++)
      for (let dx = -2; dx <= 2; dx++)
        m[y + dy][x + dx] = Math.max(Math.abs(dx), Math.abs(dy)) !== 1;
  }));
  putFormat(m, 0);
  putVersion(m, version);
  return m;
}

function alignment(version) {
  if (version === 1)
    return [];
  const marks = Math.floor(version / 7) + 2, step = 2 * Math.ceil((4 * version + 4) / (2 * marks - 2));
  const places = [];
  for (let at = sizeOf(version) - 7; places.length < marks - 1; at -= step)
    places.unshift(at);
  return [6, ...places];
}

function putFormat(m, mask) {
  const size = m.length;
  let rest = mask; // level M is 00
  for (let i = 0; i < 10; i++)
    rest = (rest << 1) ^ ((rest >> 9) * 0x537);
  const bits = ((mask << 10) | rest) ^ 0x5412, bit = (i) => ((bits >> i) & 1) === 1;
  for (let i = 0; i < 6; i++)
    m[i][8] = bit(i);
  m[7][8] = bit(6);
  m[8][8] = bit(7);
  m[8][7] = bit(8);
  for (let i = 9; i < 15; i++)
    m[8][14 - i] = bit(i);
  for (let i = 0; i < 8; i++)
    m[8][size - 1 - i] = bit(i);
  for (let i = 8; i < 15; i++)
    m[size - 15 + i][8] = bit(i);
  m[size - 8][8] = true;
}

function putVersion(m, version) {
  if (version < 7)
    return;
  let rest = version;
  for (let i = 0; i < 12; i++)
    rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
  const bits = (version << 12) | rest;
  for (let i = 0; i < 18; i++) {
    const a = m.length - 11 + i % 3, b = Math.floor(i / 3);
    m[b][a] = m[a][b] = ((bits >> i) & 1) === 1;
  }
}

const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x, y) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => (x * y) % 2 + (x * y) % 3 === 0,
  (x, y) => ((x * y) % 2 + (x * y) % 3) % 2 === 0,
  (x, y) => ((x + y) % 2 + (x * y) % 3) % 2 === 0,
];

/** Fills what is free, in columns of two from the right, up and down in turn. */
function putData(fixed, bytes, mask) {
  const size = fixed.length, m = fixed.map((row) => [...row]);
  let i = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6)
      right = 5;
    const up = ((right + 1) & 2) === 0;
    for (let v = 0; v < size; v++)
      for (const x of [right, right - 1]) {
        const y = up ? size - 1 - v : v;
        if (fixed[y][x] !== undefined)
          continue;
        const bit = i < 8 * bytes.length ? (bytes[i >> 3] >> (7 - (i & 7))) & 1 : 0;
        m[y][x] = (bit === 1) !== MASKS[mask](x, y);
        i++;
      }
  }
  putFormat(m, mask);
  return m;
}

/** How hard it is to read: long runs, squares, what looks like a finder, too dark or too light. */
function penalty(m) {
  const size = m.length;
  let points = 0, dark = 0;
  const lines = [...m, ...m.map((_, x) => m.map((row) => row[x]))].map((line) => line.map((b) => b ? "1" : "0").join(""));
  for (const line of lines) {
    for (const run of line.match(/0{5,}|1{5,}/g) || [])
      points += run.length - 2;
    points += 40 * ((line.match(/(?=00001011101|10111010000)/g) || []).length);
  }
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      dark += m[y][x] ? 1 : 0;
      if (x && y && m[y][x] === m[y - 1][x] && m[y][x] === m[y][x - 1] && m[y][x] === m[y - 1][x - 1])
        points += 3;
    }
  return points + 10 * Math.floor(Math.abs(20 * dark / (size * size) - 10));
}

/** The square of a text: rows of true (dark) and false. Throws when it is too long. */
export function qrModules(text) {
  const bytes = [...new TextEncoder().encode(text)];
  let version = 1;
  while (version < CHECK_BYTES.length && bytes.length + (version < 10 ? 2 : 3) > dataBytes(version))
    version++;
  if (version === CHECK_BYTES.length)
    throw new Error("The text is too long for a QR code.");
  const words = interleave(pack(bytes, version), version), fixed = pattern(version);
  return MASKS.map((_, mask) => putData(fixed, words, mask))
    .reduce((best, m) => penalty(m) < penalty(best) ? m : best);
}

/** An svg element; dark on light in every colour scheme, with the margin that readers need. */
export function qrSvg(text, label) {
  const m = qrModules(text), side = m.length + 8, make = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes))
      node.setAttribute(key, value);
    return node;
  };
  const svg = make("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label, class: "qr" });
  const path = m.flatMap((row, y) => row.map((on, x) => on ? `M${x + 4} ${y + 4}h1v1h-1z` : "")).join("");
  svg.append(make("rect", { width: side, height: side, fill: "#fff" }),
             make("path", { d: path, fill: "#000", "shape-rendering": "crispEdges" }));
  return svg;
}
