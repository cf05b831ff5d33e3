// The tables: the same cells as the page was written with (macros.html.jinja), counted anew. Only text nodes are made, never markup
// from text: the reasons are other people's words.

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Made once: a formatter is dear, and there are thousands of numbers.
const { format: number } = new Intl.NumberFormat("en-US");
const words = (what, count, fresh) => (fresh === 0 ? `${what}, all known` : fresh < count ? `${what}, ${number(count - fresh)} known` : what);

// The same as chips() in report/counts.py.
function chips(data, counts, rule) {
  const found = [];
  const of = (verdict) => data.byVerdict[verdict];
  const get = (outcome, mark) => counts[outcome * MARKS.length + mark];
  const plain = (outcomes, group, mark) => outcomes.forEach(([name, k]) => {
    if (get(k, mark)) found.push({ group, kind: name, symbol: data.outcomes[name].symbol, count: get(k, mark), says: name });
  });
  for (const [name, k] of of("bad")) {
    const fresh = get(k, BAD), all = fresh + get(k, KNOWN);
    if (all) found.push({ group: "bad", kind: name, symbol: data.outcomes[name].symbol, count: all, says: words(name, all, fresh), solid: fresh > 0 });
  }
  if (rule) {
    const good = of("good");
    const fresh = good.reduce((total, [, k]) => total + get(k, BAD), 0);
    const violated = good.reduce((total, [, k]) => total + get(k, KNOWN), fresh);
    const fulfilled = good.reduce((total, [, k]) => total + get(k, GOOD), 0);
    if (violated) found.push({ group: "bad", kind: "violated", symbol: "⊘", count: violated, says: words("not allowed", violated, fresh), solid: fresh > 0 });
    if (fulfilled) found.push({ group: "good", kind: "fulfilled", symbol: "✓", count: fulfilled, says: "fulfilled" });
  } else plain(of("good"), "good", GOOD);
  // Not only the neutral outcomes: where a rule says "may", any other is neutral too.
  plain(data.outcomeNames.map((name, k) => [name, k]), "neutral", NEUTRAL);
  return found;
}

// Chips of a kind differ in their number only, and a copy is much cheaper than a new one.
const chip = (() => {
  const kinds = new Map();
  return ({ group, kind, symbol, count, solid }) => {
    const name = `chip ${group} ${kind}${solid ? " solid" : ""}`;
    if (!kinds.has(name)) kinds.set(name, make("span", { class: name }, make("span", { "aria-hidden": "true" }, symbol), " "));
    const node = kinds.get(name).cloneNode(true);
    node.lastChild.data = number(count);
    return node;
  };
})();

function bar(counts) {
  const SVG = "http://www.w3.org/2000/svg";
  const total = sum(counts, () => true);
  const share = { bad: (_, mark) => mark <= KNOWN, good: (_, mark) => mark === GOOD, neutral: (_, mark) => mark === NEUTRAL };
  const picture = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" })) picture.setAttribute(name, value);
  let start = 0;
  for (const [group, test] of Object.entries(share)) {
    let width = (100 * sum(counts, test)) / total;
    if (!width) continue;
    if (group === "bad") width = Math.max(width, 2);
    const piece = document.createElementNS(SVG, "rect");
    const size = { class: group, x: start.toFixed(1), width: Math.min(width, 100 - start).toFixed(1), height: 4 };
    for (const [name, value] of Object.entries(size)) piece.setAttribute(name, value);
    picture.append(piece);
    start += width;
  }
  return picture;
}

const nothing = () => make("span", { class: "none" }, "–");

// What a cell is about, for those who come to its button without its row and column.
function said(key) {
  const [kind, rest, parts] = pieces(key);
  if (kind === "pair") return `${parts[2]} to ${parts[3]}: `;
  return kind === "rule" ? `${parts[1]}: ` : `${rest}: `;
}

function fill(data, node, counts, key) {
  if (!counts.some(Boolean)) return node.replaceChildren(nothing());
  const rule = key.startsWith("rule:");
  const listed = chips(data, counts, rule);
  const groups = ["bad", "good", "neutral"].map((group) => {
    const mine = listed.filter((each) => each.group === group);
    return mine.length ? make("span", { class: `chips ${group}` }, ...mine.map(chip)) : null;
  });
  const button = make("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, rule ? null : bar(counts), ...groups);
  // Symbols and colours in words, and the row and column for those who come by Tab.
  button.setAttribute("aria-label", said(key) + listed.map(({ count, says }) => `${number(count)} ${says}`).join("; "));
  button.dataset.open = key;
  node.replaceChildren(button);
}

function fillTotal(data, node, counts) {
  const key = node.dataset.total, what = key.split("/")[2];
  const marks = what.split("+").map((mark) => MARKS.indexOf(mark));
  const outcome = data.outcomeNames.indexOf(what);
  const total = sum(counts, (o, mark) => what === "all" || o === outcome || marks.includes(mark));
  if (!total) return node.replaceChildren(nothing());
  const button = make("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, number(total), make("span", { class: "vh" }, ` ${node.dataset.label}`));
  button.dataset.open = `total:${key}`;
  node.replaceChildren(button);
}

// Rows, columns and whole parts in which nothing is left go away, as long as something is filtered.
function prune(section, filtered) {
  for (const table of section.querySelectorAll("table.matrix, table.rules")) {
    const rows = [...table.tBodies[0].rows];
    const full = (cell) => !filtered || cell.querySelector(".open") !== null;
    for (const row of rows) row.hidden = ![...row.cells].slice(1).some(full);
    [...table.tHead.rows[0].cells].slice(1).forEach((head, k) => {
      const gone = table.className === "matrix" && !rows.some((row) => full(row.cells[k + 1]));
      for (const cell of [head, ...rows.map((row) => row.cells[k + 1])]) cell.hidden = gone;
    });
    table.hidden = rows.every((row) => row.hidden);
    const title = table.closest(".scroll").previousElementSibling;
    if (title?.tagName === "H4") title.hidden = table.hidden;
  }
  for (const token of section.querySelectorAll(".tokens li")) token.hidden = filtered && !token.querySelector(".open");
  for (const part of section.querySelectorAll(".part")) {
    part.hidden = filtered && !part.querySelector(".open");
  }
}

// Returns the function that counts one run's tables anew.
function tables(data, section) {
  const cells = [...section.querySelectorAll("[data-cell]")].map((node) => ({ node, key: node.dataset.cell, shown: "" }));
  const totals = [...section.querySelectorAll("[data-total]")];
  return (selected, filtered) => {
    const counts = count(data, selected);
    for (const cell of cells) {
      const slot = counts(cell.key), now = slot.join();
      if (now === cell.shown) continue;
      cell.shown = now;
      fill(data, cell.node, slot, cell.key);
    }
    for (const node of totals) fillTotal(data, node, counts(`total:${node.dataset.total.split("/").slice(0, 2).join("/")}`));
    prune(section, filtered);
  };
}
