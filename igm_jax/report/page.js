"use strict";
// Helpers, and the parts of the page that are text. All text enters as text nodes, never as HTML.

const by = (id) => document.getElementById(id);
const content = JSON.parse(by("content").textContent);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// The bytes of a text that Python's `player.deflated` made.
async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A colour of the style sheet. `tones` is emptied when light and dark change.
const tones = new Map();
function colour(name) {
  if (!tones.has(name)) {
    tones.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return tones.get(name);
}

function fill(select, options, value) {
  select.replaceChildren(
    ...options.map(([key, text]) => element("option", { value: key, textContent: text })),
  );
  select.value = value ?? options[0]?.[0];
}

function definitions(list, pairs) {
  list.replaceChildren(
    ...pairs.flatMap(([name, value]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: value }),
    ]),
  );
}

// A table that scrolls by itself where it is wider than the page.
function tableOf({ title = "", note = "", columns, rows, strong = false }) {
  const head = element("tr", {}, ...columns.map((c) => element("th", { scope: "col", textContent: c })));
  const body = rows.map((row, i) =>
    element(
      "tr",
      { className: strong && i === 0 ? "first" : "" },
      ...row.map((cell) =>
        element("td", {
          className: /^-$|^-?\d[\d.e-]*( to -?[\d.]+)?( %)?$/.test(cell) ? "number" : "",
          textContent: cell,
        }),
      ),
    ),
  );
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  if (title) table.prepend(element("caption", { textContent: title }));
  const holder = element("div", { className: "scroll", tabIndex: 0 }, table);
  holder.setAttribute("role", "region");
  holder.setAttribute("aria-label", title || columns.join(", "));
  if (note) holder.append(element("p", { className: "note", textContent: `Note: ${note}.` }));
  return holder;
}

function showText(run) {
  by("name").textContent = run.name;
  by("progress").textContent = `${run.folder}, ${run.progress}`;
  by("numbers").replaceChildren(
    ...run.numbers.map(([value, label]) =>
      element("div", {}, element("b", { textContent: value }), element("span", { className: "quiet", textContent: label })),
    ),
  );
  definitions(by("facts"), run.training);
  definitions(by("data"), run.data);
  definitions(by("environment"), run.environment);
  by("all-settings").replaceChildren(tableOf({ columns: ["key", "value", "meaning"], rows: run.settings }));
  by("tables").replaceChildren(
    ...(run.tables.length
      ? run.tables.map((table) => tableOf({ ...table, strong: table.columns[0] === "features" }))
      : [nothing(run, "No protocol was run on this run.")]),
  );
}

function nothing(run, what) {
  return element("p", { className: "note", textContent: `${what} To add it: python experiments/evaluate.py ${run.folder}` });
}

function showDifferences() {
  const many = content.runs.length > 1;
  by("differences").hidden = !many;
  document.querySelector('nav a[href="#differences"]').hidden = !many;
  if (!many) return;
  const columns = ["", ...content.runs.map((run) => run.name)];
  by("difference-table").replaceChildren(tableOf({ columns, rows: content.differences }));
}
