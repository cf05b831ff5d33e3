// A cell's cases: those with the same reason together, worst first, a hundred at a time.

const PAGE = 100;

function groupsOf(data, records) {
  const { columns, values } = data;
  const [O, D, U] = ["outcome", "deviation", "rules"].map((name) => values[name].length);
  const groups = new Map();
  for (const i of records) {
    // One number for what has to be equal; the product of these sizes stays far below 2 ** 53.
    const key = (((columns.reason[i] * O + columns.outcome[i]) * MARKS.length + columns.mark[i]) * D + columns.deviation[i]) * U + columns.rules[i];
    const group = groups.get(key);
    if (group) group.push(i);
    else groups.set(key, [i]);
  }
  return [...groups.values()].sort((a, b) => columns.mark[a[0]] - columns.mark[b[0]] || b.length - a.length || a[0] - b[0]);
}

// Shows a page of a list, and a button for the next page as long as there is more.
function paged(items, show, into, what) {
  let shown = 0;
  const more = make("button", { type: "button", class: "more" });
  const next = () => {
    const first = items.slice(shown, shown + PAGE).map(show);
    into.append(...first);
    shown += first.length;
    more.hidden = shown >= items.length;
    more.textContent = `Show ${number(Math.min(PAGE, items.length - shown))} more ${what} (${number(shown)} of ${number(items.length)} shown)`;
    return first[0];
  };
  next();
  more.addEventListener("click", () => {
    const first = next();
    // The button may be gone, and with it the focus: it goes on with what came.
    (first.querySelector("summary, button") ?? more).focus();
  });
  return more;
}

function quoted(rule, id) {
  const clause = (clause, source, link) => [
    make("blockquote", {}, make("p", {}, clause ?? "")),
    make("p", { class: "source" }, source ?? "", ...(link ? [" · ", make("a", { href: link, rel: "noreferrer" }, "the text")] : [])),
  ];
  if (!rule) return make("p", {}, "Rule ", make("code", {}, id));
  return make("div", { class: "quoted" },
    make("p", {}, "Rule ", make("code", {}, id), ` (${rule.level}): ${rule.title}`),
    ...clause(rule.clause, rule.source, rule.link),
    ...(rule.also ? [make("p", { class: "also" }, "Also, which relaxes or contradicts it:"), ...clause(rule.also.clause, rule.also.source, rule.also.link)] : []));
}

function deviationOf(data, id) {
  const { happens, link } = data.deviations[id];
  return make("p", { class: "deviation" }, make("b", {}, "Known deviation "), make("code", {}, id), `: ${happens} `,
    ...(link ? [make("a", { href: link, rel: "noreferrer" }, "Upstream report")] : []));
}

// Long lines break after a slash, where no copied text changes.
const breakable = (line) => line.split(/(?<=\/)/).flatMap((piece) => [piece, make("wbr")]);

function caseRow(data, i, full) {
  const line = commandOf(data, i);
  const of = (name) => valueOf(data, name, i);
  const what = [of("dtype"), of("layout"), of("state")].filter(Boolean);
  if (full) what.unshift(`${of("producer")} → ${of("consumer")}`);
  const copy = make("button", { type: "button", class: "copy", "aria-label": `Copy the command for ${idOf(data, i)}` }, "Copy");
  copy.dataset.copy = line;
  return make("li", {}, make("span", { class: "what" }, ...(what.length ? what : [of("case")]).map((text) => make("span", {}, text))), make("code", { class: "command" }, ...breakable(line)), copy);
}

function groupNode(data, records, open, full) {
  const i = records[0];
  const mark = data.columns.mark[i], outcome = valueOf(data, "outcome", i), { symbol, verdict } = data.outcomes[outcome];
  // Good elsewhere and not allowed by the rule: it must not look good.
  const violated = mark <= KNOWN && verdict === "good";
  const kind = `${mark <= KNOWN ? "bad" : MARKS[mark]} ${violated ? "violated" : outcome}${mark === BAD ? " solid" : ""}`;
  const name = make("span", { class: `chip ${kind}` }, make("span", { "aria-hidden": "true" }, violated ? "⊘" : symbol), ` ${outcome}`);
  const summary = make("summary", {}, name, make("span", { class: "times" }, `${number(records.length)}×`), make("span", { class: "reason" }, valueOf(data, "reason", i) || "no remark"));
  const group = make("details", { class: "group", open }, summary);
  // Filled when it is opened: a cell may have thousands of cases.
  const build = () => {
    const list = make("ol", { class: "list" });
    const deviation = valueOf(data, "deviation", i);
    // In the protocol layer the case is the rule.
    const about = new Set([...(valueOf(data, "layer", i) === "protocol" ? [valueOf(data, "case", i)] : []), ...valueOf(data, "rules", i).split(" ").filter(Boolean)]);
    group.append(...(deviation ? [deviationOf(data, deviation)] : []), ...[...about].map((id) => quoted(data.rules[id], id)), list,
      paged(records, (each) => caseRow(data, each, full), list, "cases"));
  };
  if (open) build();
  else group.addEventListener("toggle", build, { once: true });
  return group;
}

function titleOf(data, key) {
  const [kind, rest, parts] = pieces(key);
  if (kind === "pair") return [`${parts[2]} → ${parts[3]}`, parts[0] === "handoff" ? `handoff by the route ${parts[1]}` : parts[0]];
  if (kind === "rule") return [data.rules[parts[0]]?.title ?? parts[0], parts[1]];
  if (kind === "token") return [rest, "policy"];
  const what = { all: "all cases", "bad+known": "bad", bad: "bad, not known" }[parts[2]] ?? parts[2];
  return [what, parts[0] === "handoff" ? `handoff by the route ${parts[1]}` : parts[0]];
}

function showCases(data, dialog, key, selected, filtered) {
  const test = behind(data, key);
  const records = selected.filter(test);
  const groups = groupsOf(data, records);
  const [title, small] = titleOf(data, key);
  dialog.querySelector("h2").replaceChildren(title, make("small", {}, small));
  dialog.querySelector("#cases-count").textContent =
    `${number(records.length)} case${records.length === 1 ? "" : "s"}${filtered ? " under the filters" : ""}, ${number(groups.length)} reason${groups.length === 1 ? "" : "s"}, worst first.`;
  const list = make("div", { class: "groups" });
  const full = !key.startsWith("pair:") && !key.startsWith("rule:");
  const more = paged(groups.map((group, k) => [group, k === 0]), ([group, first]) => groupNode(data, group, first, full), list, "reasons");
  dialog.querySelector("#cases-body").replaceChildren(list, more);
  if (!dialog.open) dialog.showModal();
  // The title first: a reader begins with what this is, not with the way out.
  dialog.querySelector("h2").focus();
  dialog.scrollTop = 0;
}
