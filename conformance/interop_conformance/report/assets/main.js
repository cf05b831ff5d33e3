// What is asked for (environment, filters, open cell) stands in the address after the #, so that a view can be sent to somebody.

const FILTERS = ["route", "producer", "consumer", "dtype", "layout", "state", "outcome", "q"];
const find = (selector) => document.querySelector(selector);

async function start() {
  const began = performance.now();
  const data = await unpack(find("#data").textContent);
  const form = find("#form"), dialog = find("#cases"), status = find("#status");
  const sections = [...document.querySelectorAll(".run")];
  const recount = sections.map((section) => tables(data, section));
  const anchors = sections.map((section) => section.id);
  let view = {}, selected = new Uint32Array(), opener = null;

  for (const name of FILTERS) {
    const field = form.elements[name];
    if (field.tagName === "SELECT" && !field.options.length)
      field.append(new Option("all", ""), ...data.values[name].filter(Boolean).map((value) => new Option(value, value)));
  }

  // An address with no "=" is a jump inside the page (the skip link), and changes nothing here.
  function read() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return null;
    const given = new URLSearchParams(text);
    return Object.fromEntries(["env", ...FILTERS, "cell"].map((name) => [name, given.get(name) ?? ""]));
  }

  function address(next) {
    const given = new URLSearchParams();
    for (const [name, value] of Object.entries(next)) if (value && !(name === "env" && value === anchors[0])) given.set(name, value);
    return String(given) ? `#${given}` : location.pathname + location.search;
  }

  const worded = (name) => form.elements[name].selectedOptions?.[0].text ?? `“${view[name]}”`;
  const filtered = () => FILTERS.some((name) => view[name]);

  // Shows what the address asks for. A value that the page does not know becomes none.
  function show(next) {
    view = next;
    if (!anchors.includes(view.env)) view.env = anchors[0];
    for (const name of ["env", ...FILTERS]) {
      form.elements[name].value = view[name];
      view[name] = form.elements[name].value;
    }
    const run = anchors.indexOf(view.env);
    sections.forEach((section, number) => { section.hidden = number !== run; });
    const before = performance.now();
    selected = select(data, run, view);
    recount[run](selected, filtered());
    document.documentElement.dataset.took = (performance.now() - before).toFixed(1);
    const { start, end } = data.runs[run];
    status.textContent = filtered() ? `${number(selected.length)} of ${number(end - start)} cases match.` : `${number(end - start)} cases.`;
    find("#active").textContent = filtered() ? ` (${FILTERS.filter((name) => view[name]).map(worded).join(", ")})` : "";
    if (view.cell) showCases(data, dialog, view.cell, selected, filtered());
    else if (dialog.open) dialog.close();
  }

  function go(next, keep) {
    // Filters replace the entry in the history; an opened cell is a new one, so that "back" closes it, also on a phone. What it goes
    // back to is the view, not a jump inside the page, which would take the focus along.
    if (keep) history.replaceState(null, "", address(view));
    history[keep ? "pushState" : "replaceState"]({ opened: Boolean(keep) }, "", address(next));
    show(next);
  }

  const chosen = () => Object.fromEntries([...["env", ...FILTERS].map((name) => [name, form.elements[name].value.trim()]), ["cell", ""]]);
  form.addEventListener("change", () => go(chosen()));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => go({ ...chosen(), ...Object.fromEntries(FILTERS.map((name) => [name, ""])), env: view.env })));
  // After the last letter, not after each: the counts are read aloud.
  let waiting = 0;
  form.elements.q.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go(chosen()), 150);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-open]");
    if (button) {
      opener = button.dataset.open;
      go({ ...view, cell: opener }, true);
    }
    const copy = event.target.closest("button[data-copy]");
    if (copy) copied(copy);
  });
  find("#cases-close").addEventListener("click", () => dialog.close());
  // A click beside the dialog hits the dialog itself.
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    find("#cases-body").replaceChildren();
    // Closed by hand: the entry that opening made goes away again.
    if (view.cell && history.state?.opened) history.back();
    else if (view.cell) go({ ...view, cell: "" });
    // The cell's button may have been made anew meanwhile, so that the browser cannot give the focus back by itself.
    if (opener) [...document.querySelectorAll("button[data-open]")].find((each) => each.dataset.open === opener && each.offsetParent)?.focus();
    opener = null;
  });
  addEventListener("popstate", () => show(read() ?? { ...view, cell: "" }));

  find("#filters").hidden = false;
  if (matchMedia("(max-width: 700px)").matches) {
    find("#filters").open = false;
    for (const legend of document.querySelectorAll(".legend")) legend.open = false;
  }
  show(read() ?? chosen());
  document.documentElement.dataset.ready = (performance.now() - began).toFixed(1);
}

async function copied(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard for this page (an old browser, or not a secure address): the line is selected, to be copied by hand.
    getSelection().selectAllChildren(button.previousElementSibling);
    find("#said").textContent = "The command is selected.";
    return;
  }
  find("#said").textContent = "Copied.";
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

start().catch((error) => {
  find("#status").textContent = `The single cases cannot be shown in this browser (${error.message}); the tables are complete.`;
});
