const provenance = JSON.parse(document.getElementById("provenance").textContent);

// A click, or Enter, on what can be acted upon.
function act(element, action) {
  element.tabIndex = 0;
  element.addEventListener("click", () => action(element));
  element.addEventListener("keydown", (event) => event.key === "Enter" && action(element));
}

// Columns sort by the number behind a cell, or by its text; a second click turns the order round.
function sort(head) {
  const place = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.children[place];
    const number = parseFloat(cell.dataset.mean ?? cell.textContent);
    return Number.isNaN(number) ? [0, cell.textContent] : [1, number];
  };
  const rows = [...head.closest("table").tBodies[0].rows];
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const order = x[0] !== y[0] ? x[0] - y[0] : x[1] < y[1] ? -1 : x[1] > y[1] ? 1 : 0;
    return down ? -order : order;
  });
  head.closest("table").tBodies[0].append(...rows);
}
for (const head of document.querySelectorAll("figure.table thead th[scope=col]")) act(head, sort);

// ---- views of all tables: which rows and columns, which numbers, colours
const grids = [...document.querySelectorAll("figure.table:not(.claims, .runs) table")].map((table) => {
  const groups = [];
  for (const head of table.querySelectorAll("thead th[scope=colgroup], thead tr:first-child td"))
    for (let at = 0; at < head.colSpan; at += 1) groups.push(head.scope ? head : null);
  const heads = [...table.querySelectorAll("thead tr:last-child th")];
  const rows = [...table.tBodies, ...(table.tFoot ? [table.tFoot] : [])].flatMap((part) => [...part.rows]);
  return { table, heads, groups, rows, byLine: Boolean(table.closest("details")) };
});
// Numbers of one column of the study: of a column, or of a line where methods are columns. A bold one is the best.
const rivals = grids.flatMap(({ table, byLine }) => {
  const found = new Map();
  for (const cell of table.querySelectorAll("td[data-mean]")) {
    if (/^(p_value|paired|delong|difference)/.test(cell.dataset.row)) continue;
    const place = byLine ? cell.parentNode : cell.cellIndex;
    const number = { cell, mean: Number(cell.dataset.mean), plain: cell.innerHTML, best: cell.querySelector("strong") };
    found.set(place, [...(found.get(place) ?? []), number]);
  }
  return [...found.values()];
});
const control = (name) => document.getElementById(name);
const has = (text, wanted) => !wanted || text.toLowerCase().includes(wanted);

// Methods are rows of a table of columns, and columns of one that has a grid for each column.
function filter() {
  const [methods, columns] = ["rows", "columns"].map((name) => control(name).value.trim().toLowerCase());
  for (const { table, heads, groups, rows, byLine } of grids) {
    const shown = heads.map((head, place) => {
      // Other columns name a row or count its labels or images.
      const numbered = rows.some((row) => row.cells[place]?.dataset.column);
      if (!numbered) return true;
      return byLine ? has(head.textContent, methods) : has(`${groups[place]?.textContent ?? ""} ${head.textContent}`, columns);
    });
    heads.forEach((head, place) => { head.hidden = !shown[place]; });
    for (const group of new Set(groups)) {
      if (!group) continue;
      const left = groups.filter((each, place) => each === group && shown[place]).length;
      group.hidden = left === 0;
      if (left) group.colSpan = left;
    }
    for (const row of rows) {
      [...row.cells].forEach((cell, place) => { cell.hidden = !shown[place]; });
      row.hidden = !byLine && row.parentNode !== table.tFoot && !has(row.cells[0].textContent, methods);
    }
    if (byLine) table.parentNode.hidden = !has(heads[0].textContent, columns);
  }
}

const signed = new Intl.NumberFormat("en", { signDisplay: "exceptZero", minimumFractionDigits: 1, maximumFractionDigits: 1 });
// Our number, or how far it is from the paper's or from the best of its column.
function show() {
  const kind = control("shown").value;
  for (const numbers of rivals) {
    const best = numbers.find((number) => number.best)?.mean;
    for (const { cell, mean, plain } of numbers) {
      const other = kind === "paper" ? cell.dataset.reported : best;
      if (!kind) cell.innerHTML = plain;
      else cell.textContent = other === undefined ? "" : signed.format(mean - other).replace("-", "\u2212");
    }
  }
}

// The stronger, the better: the highest number of a column, or the lowest of errors, as the bold one tells.
function colour() {
  for (const numbers of rivals) {
    const means = numbers.map((number) => number.mean);
    const [low, high] = [Math.min(...means), Math.max(...means)];
    const best = numbers.find((number) => number.best)?.mean ?? high;
    const worst = best - low < high - best ? high : low;
    for (const { cell, mean } of numbers) {
      cell.classList.toggle("hot", control("heat").checked);
      const share = best === worst ? 0 : Math.min(1, (mean - worst) / (best - worst));
      cell.style.setProperty("--share", `${Math.round(45 * share)}%`);
    }
  }
}
for (const name of ["rows", "columns"]) control(name).addEventListener("input", filter);
control("shown").addEventListener("change", show);
control("heat").addEventListener("change", colour);
document.querySelector(".views").addEventListener("submit", (event) => event.preventDefault());

// ---- a table to take away
const text = (cell) => cell.innerText.replace(/\s+/g, " ").trim();
function lines(figure) {
  return [...figure.querySelectorAll("tr")].filter((row) => !row.hidden).map((row) =>
    [...row.cells].filter((cell) => !cell.hidden).flatMap((cell) => [text(cell), ...Array(cell.colSpan - 1).fill("")]));
}
const quotedField = (field) => (/[",\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);
function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
function copy(content, button) {
  const area = document.createElement("textarea");
  area.value = content;
  document.body.append(area);
  area.select();
  document.execCommand("copy"); // the clipboard's newer interface is closed to files
  area.remove();
  button.textContent = "Copied";
}
for (const figure of document.querySelectorAll("figure.table[id]")) {
  const bar = document.createElement("p");
  bar.className = "tools";
  const add = (label, action) => {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", () => action(button));
    bar.append(button);
  };
  add("CSV", () => save(`${figure.id}.csv`, lines(figure).map((line) => line.map(quotedField).join(",")).join("\n")));
  if (provenance.latex?.[figure.id]) add("LaTeX", () => save(`${figure.id}.tex`, provenance.latex[figure.id]));
  add("Copy", (button) => copy(lines(figure).map((line) => line.join("\t")).join("\n"), button));
  figure.querySelector("figcaption").after(bar);
}

// ---- figures enlarged
const enlarged = document.getElementById("enlarged");
for (const picture of document.querySelectorAll(".pictures img")) {
  act(picture, () => {
    enlarged.querySelector("img")?.remove();
    enlarged.append(picture.cloneNode());
    enlarged.showModal();
  });
}

enlarged.addEventListener("click", () => enlarged.close());

// ---- claims and the cells that they judge
const judged = new Map();
for (const claim of document.querySelectorAll("tr[data-targets]"))
  for (const target of claim.dataset.targets.split(" ")) judged.set(target, [...(judged.get(target) ?? []), claim]);
for (const claim of document.querySelectorAll("tr[data-targets]")) {
  const button = document.createElement("button");
  button.textContent = "Show its cells";
  button.addEventListener("click", () => {
    const wanted = claim.dataset.targets.split(" ");
    const cells = [...document.querySelectorAll("td[data-target]")].filter((cell) => wanted.includes(cell.dataset.target) && !cell.closest("details:not([open])"));
    for (const cell of document.querySelectorAll("td.marked")) cell.classList.remove("marked");
    for (const cell of cells) cell.classList.add("marked");
    cells[0]?.scrollIntoView({ block: "center" });
  });
  claim.cells[0].append(button);
}

// ---- provenance
const dialog = document.getElementById("details");
const line = (name, value) => {
  const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  detail.textContent = value;
  return [term, detail];
};
// A path as a shell reads it.
const quoted = (path) => (/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'"'"'`)}'`);
const round = (number) => String(+Number(number).toPrecision(4));
// A p-value over resamples has no interval.
function interval(number) {
  if (!number.resamples || number.row.startsWith("p_value")) return "";
  return number.low ? `${round(number.low)} to ${round(number.high)}` : "undefined";
}
function resamples(number) {
  if (!number.resamples) return "";
  const used = number.resamples - number.undefined_resamples;
  const text = `${used} of ${number.resamples}`;
  return used < number.resamples ? `${text}; the others leave a class with one label only` : text;
}
const facts = [
  ["mean", (number) => number.mean && !number.row?.startsWith("p_value") && round(number.mean)],
  ["p-value", (number) => number.mean && number.row?.startsWith("p_value") && number.printed],
  ["standard deviation", (number) => number.sd && `${round(number.sd)} over ${number.seeds} seeds`],
  ["standard deviation", (number) => number.sd_splits && `${round(number.sd_splits)} over ${number.splits} splits`],
  ["standard error", (number) => number.se && `${round(number.se)}, of seeds, splits and images`],
  ["95 % interval over images", interval],
  ["resamples", resamples],
  ["positive, negative labels", (number) => number.positives && `${number.positives}, ${number.negatives}`],
  ["the paper's number", (number) => number.reported],
  ["difference", (number) => number.difference && round(number.difference)],
  ["its interval", (number) => number.difference_low && `${round(number.difference_low)} to ${round(number.difference_high)}`],
  ["verdict", (number) => number.verdict],
  ["status", (number) => number.status !== "ok" && number.status],
];

// Facts of the runs behind a target. Measures and groups of a cell are of those behind its AUC.
const runsOf = (target) => provenance.cells[target.replace(/(measures|subgroups|on_\w+)\.json$/, "auc.json")];

// The command that trains what is behind a target again, in as many threads, on which the last bits depend on a CPU; a t-test
// is computed from what is there.
function again(target) {
  const threads = runsOf(target)?.threads;
  const inThreads = /^\d+$/.test(threads) ? ` --set-threads finetune=${threads}` : "";
  const rules = /\/cells\//.test(target) ? ` -R finetune finetune_kept${inThreads}` : /\/probes\//.test(target) ? " -R probe" : "";
  return provenance.command.replace("TARGET", () => quoted(target)) + rules;
}

// What a number is, and where it comes from: of a p-value, both cells that it compares.
function open(cell) {
  const number = cell.dataset;
  const targets = number.target.split(/(?<=\.json) /);
  const row = cell.closest("tr");
  const head = row.cells[0].textContent;
  const { groups, heads } = grids.find(({ table }) => table.contains(cell)) ?? { groups: [], heads: [] };
  const place = [...row.cells].indexOf(cell);
  const column = `${groups[place]?.textContent ?? ""} ${heads[place]?.textContent ?? ""}`.trim();
  dialog.querySelector("h3").textContent = `${head}, ${column}: ${number.printed ?? cell.textContent}`;
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  for (const [name, of] of facts) if (of(number)) list.append(...line(name, of(number)));
  for (const target of targets) {
    list.append(...line("target", target));
    for (const behind of provenance.tests[target] ?? [target]) {
      if (behind !== target) list.append(...line("compares", behind));
      for (const [name, value] of Object.entries(runsOf(behind) ?? { "run.json": "not here" })) list.append(...line(name, value));
    }
  }
  for (const claim of targets.flatMap((target) => judged.get(target) ?? [])) {
    const [term, detail] = line("claim", "");
    const link = document.createElement("a");
    link.href = `#${claim.id}`;
    link.textContent = claim.cells[0].firstChild.textContent;
    link.addEventListener("click", () => dialog.close());
    detail.append(link);
    list.append(term, detail);
  }
  dialog.querySelector("pre").textContent = targets.map(again).join("\n");
  dialog.showModal();
}
for (const cell of document.querySelectorAll("td[data-target]")) act(cell, open);
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
