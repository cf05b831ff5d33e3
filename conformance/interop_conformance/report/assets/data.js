// The records, as columns of small integers (report/columns.py says how they are packed), and what is asked of them.
// Everything is a loop over typed arrays: the whole matrix is filtered and counted in a few milliseconds, so nothing is cached.

const MARKS = ["bad", "known", "good", "neutral"];
const BAD = 0, KNOWN = 1, GOOD = 2, NEUTRAL = 3;
const CASE = ["layer", "route", "producer", "consumer", "case", "dtype", "layout", "state"];
const CAPSULE = "capsule";

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(raw.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(raw.subarray(4, 4 + length)));
  const count = head.counts.reduce((sum, each) => sum + each, 0);
  const data = { ...head, values: {}, columns: {}, runs: [] };
  let at = 4 + length;
  for (const { name, values, width } of head.fields) {
    data.values[name] = values;
    data.columns[name] = merged(raw, at, count, width);
    at += count * width;
  }
  let start = 0;
  for (const each of head.counts) data.runs.push({ start, end: (start += each) });
  data.outcomeNames = Object.keys(head.outcomes);
  const named = data.outcomeNames.map((name, k) => [name, k]);
  data.byVerdict = Object.fromEntries(["good", "bad", "neutral"].map((verdict) => [verdict, named.filter(([name]) => head.outcomes[name].verdict === verdict)]));
  data.tokens = data.values.case.map((text) => text.split(/[\s,;&]+/).filter(Boolean));
  return data;
}

// A number's bytes stand in one plane each, the lowest first: that is what compresses well.
function merged(raw, at, count, width) {
  if (width === 1) return raw.slice(at, at + count);
  const column = new Uint32Array(count);
  for (let plane = 0; plane < width; plane++)
    for (let i = 0; i < count; i++) column[i] |= raw[at + plane * count + i] << (8 * plane);
  return column;
}

// A cell's key (report/counts.py): its kind, the rest, and the rest's pieces.
function pieces(key) {
  const colon = key.indexOf(":"), rest = key.slice(colon + 1);
  return [key.slice(0, colon), rest, rest.split("/")];
}

const where = (values, test) => Uint8Array.from(values, (value) => (test(value) ? 1 : 0));

// The filters as pairs (column, which of its values pass).
function tablesOf(data, filters) {
  const tables = [];
  const add = (name, test) => tables.push([data.columns[name], where(data.values[name], test)]);
  for (const name of ["route", "producer", "consumer", "dtype", "layout", "state"])
    if (filters[name]) add(name, (value) => value === filters[name]);
  const outcome = filters.outcome;
  if (outcome) {
    const marks = outcome.split("+");
    if (marks.every((mark) => MARKS.includes(mark))) add("mark", (value) => marks.includes(value));
    else add("outcome", (value) => value === outcome);
  }
  return tables;
}

// Which records of a run pass the filters: their numbers.
function select(data, run, filters) {
  const { start, end } = data.runs[run];
  const tables = tablesOf(data, filters);
  const found = new Uint32Array(end - start);
  let size = 0;
  next: for (let i = start; i < end; i++) {
    for (const [column, passes] of tables) if (!passes[column[i]]) continue next;
    found[size++] = i;
  }
  let selected = found.subarray(0, size);
  for (const term of (filters.q || "").toLowerCase().split(/\s+/).filter(Boolean)) selected = containing(data, selected, term);
  return selected;
}

// A word is looked up in each column's values, not in each record; only an id's piece, with a slash, needs the id itself.
function containing(data, selected, term) {
  if (term.includes("/")) {
    // Lower case once for each value, not for each record.
    const parts = CASE.map((name) => [data.columns[name], data.values[name].map((value) => value && `/${value.toLowerCase()}`)]);
    return selected.filter((i) => {
      let id = "";
      for (const [column, values] of parts) id += values[column[i]];
      return id.includes(term);
    });
  }
  const tables = data.fields
    .map(({ name, values }) => [data.columns[name], where(values, (value) => value.toLowerCase().includes(term))])
    .filter(([, hits]) => hits.includes(1));
  return selected.filter((i) => tables.some(([column, hits]) => hits[column[i]]));
}

const valueOf = (data, name, i) => data.values[name][data.columns[name][i]];
const idOf = (data, i) => CASE.map((name) => valueOf(data, name, i)).filter(Boolean).join("/");

// The same line as command() in report/verdicts.py: signs that mean something in a pattern, or in a shell, stand for themselves.
function commandOf(data, i) {
  const pattern = idOf(data, i).replace(/[[*?]/g, "[$&]");
  return `interop conformance run --case '${pattern.replaceAll("'", `'"'"'`)}'`;
}

// Counts of (outcome, mark), for each cell of the page by its key; the keys are those of report/counts.py.
function count(data, selected) {
  const { columns, values } = data;
  const slot = data.outcomeNames.length * MARKS.length;
  const [R, P, C] = ["route", "producer", "consumer"].map((name) => values[name].length);
  const libraries = [...new Set([...values.producer, ...values.consumer])];
  const [byProducer, byConsumer] = ["producer", "consumer"].map((name) => values[name].map((value) => libraries.indexOf(value)));
  const capsule = values.producer.indexOf(CAPSULE);
  const protocol = values.layer.indexOf("protocol"), policy = values.layer.indexOf("policy");
  const pairs = new Uint32Array(values.layer.length * R * P * C * slot);
  const totals = new Uint32Array(values.layer.length * R * slot);
  const cases = new Uint32Array(values.case.length * libraries.length * slot);
  for (const i of selected) {
    const layer = columns.layer[i], p = columns.producer[i], c = columns.consumer[i];
    const cell = columns.outcome[i] * MARKS.length + columns.mark[i];
    const part = layer * R + columns.route[i];
    pairs[((part * P + p) * C + c) * slot + cell]++;
    totals[part * slot + cell]++;
    if (layer === protocol) cases[(columns.case[i] * libraries.length + (p === capsule ? byConsumer[c] : byProducer[p])) * slot + cell]++;
    else if (layer === policy) cases[columns.case[i] * libraries.length * slot + cell]++;
  }
  const none = new Uint32Array(slot);
  const at = (array, number) => (number < 0 ? none : array.subarray(number * slot, (number + 1) * slot));
  const index = (name, value) => values[name].indexOf(value);
  return function counts(key) {
    const [kind, rest, parts] = pieces(key);
    if (kind === "token") {
      const sum = new Uint32Array(slot);
      data.tokens.forEach((tokens, number) => {
        if (tokens.includes(rest)) at(cases, number * libraries.length).forEach((each, k) => (sum[k] += each));
      });
      return sum;
    }
    if (kind === "rule") return at(cases, index("case", parts[0]) * libraries.length + libraries.indexOf(parts[1]));
    const part = index("layer", parts[0]) * R + index("route", parts[1]);
    if (kind === "total") return at(totals, part);
    return at(pairs, (part * P + index("producer", parts[2])) * C + index("consumer", parts[3]));
  };
}

const sum = (counts, test) => {
  let total = 0;
  for (let k = 0; k < counts.length; k++) if (counts[k] && test(Math.floor(k / MARKS.length), k % MARKS.length)) total += counts[k];
  return total;
};

// The records behind a cell of the page, as filters and one test besides.
function behind(data, key) {
  const [kind, rest, parts] = pieces(key);
  const is = (name, value) => {
    const wanted = data.values[name].indexOf(value), column = data.columns[name];
    return (i) => column[i] === wanted;
  };
  const all = (...tests) => (i) => tests.every((test) => test(i));
  if (kind === "pair") return all(is("layer", parts[0]), is("route", parts[1]), is("producer", parts[2]), is("consumer", parts[3]));
  if (kind === "rule") {
    const [producer, consumer] = [is("producer", parts[1]), is("consumer", parts[1])];
    return all(is("layer", "protocol"), is("case", parts[0]), (i) => producer(i) || consumer(i));
  }
  if (kind === "token") {
    const wanted = Uint8Array.from(data.tokens, (tokens) => (tokens.includes(rest) ? 1 : 0));
    return all(is("layer", "policy"), (i) => wanted[data.columns.case[i]]);
  }
  if (kind !== "total") return () => false;
  const passes = parts[2] === "all" ? [] : tablesOf(data, { outcome: parts[2] });
  return all(is("layer", parts[0]), is("route", parts[1]), (i) => passes.every(([column, table]) => table[column[i]]));
}
