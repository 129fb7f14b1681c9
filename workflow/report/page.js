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

const dialog = document.querySelector("dialog");
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
  ["method", (number) => number.method],
  ["column", (number) => number.column],
  ["mean", (number) => number.mean && round(number.mean)],
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

// What a number is, and where it comes from: of a p-value, both cells that it compares.
function open(cell) {
  const number = cell.dataset;
  const targets = number.target.split(/(?<=\.json) /);
  const row = cell.closest("tr").querySelector("th").textContent;
  dialog.querySelector("h3").textContent = `${number.row ?? row}, ${number.column ?? ""}: ${number.printed ?? cell.textContent}`;
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  for (const [name, of] of facts) if (of(number)) list.append(...line(name, of(number)));
  for (const target of targets) {
    list.append(...line("target", target));
    for (const behind of provenance.tests[target] ?? [target]) {
      if (behind !== target) list.append(...line("compares", behind));
      // Measures and groups of a cell are of the runs behind its AUC.
      const runs = provenance.cells[behind.replace(/(measures|subgroups)\.json$/, "auc.json")];
      for (const [name, value] of Object.entries(runs ?? { "run.json": "not here" })) list.append(...line(name, value));
    }
  }
  dialog.querySelector("pre").textContent = targets.map((target) => provenance.command.replace("TARGET", () => quoted(target))).join("\n");
  dialog.showModal();
}
for (const cell of document.querySelectorAll("td[data-target]")) act(cell, open);
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
