const provenance = JSON.parse(document.getElementById("provenance").textContent);

// Columns sort by the number behind a cell, or by its text; a second click turns the order round.
for (const head of document.querySelectorAll("figure.table thead th[scope=col]")) {
  head.addEventListener("click", () => {
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
  });
}

const dialog = document.querySelector("dialog");
const line = (name, value) => {
  const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  detail.textContent = value;
  return [term, detail];
};

// A click on a number says where it comes from.
function open(cell) {
  const facts = { ...cell.dataset };
  const targets = facts.target.split(" ");
  dialog.querySelector("h3").textContent = `${facts.row ?? ""} ${facts.column ?? ""}: ${facts.printed ?? cell.textContent}`;
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  for (const [name, value] of Object.entries(facts)) if (name !== "target") list.append(...line(name, value));
  for (const target of targets) {
    list.append(...line("target", target));
    for (const [name, value] of Object.entries(provenance.cells[target] ?? {})) list.append(...line(name, value));
  }
  dialog.querySelector("pre").textContent = targets.map((target) => provenance.command.replace("TARGET", target)).join("\n");
  dialog.showModal();
}
for (const cell of document.querySelectorAll("td[data-target]")) {
  cell.tabIndex = 0;
  cell.addEventListener("click", () => open(cell));
  cell.addEventListener("keydown", (event) => event.key === "Enter" && open(cell));
}
dialog.querySelector("button").addEventListener("click", () => dialog.close());
