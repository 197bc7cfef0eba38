"use strict";

// Tables: a click on a heading sorts by it, a second click turns the order round.
// Cells with an empty key (no number) stay last either way.
function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const sort = (column) => {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = heads[column].classList.contains("num");
    const key = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.v ?? cell.textContent;
      return numeric && text !== "" ? Number(text) : text;
    };
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const sign = numeric ? Math.sign(x - y) || 0 : x.localeCompare(y);
      return up ? sign : -sign;
    };
    body.append(...[...body.rows].sort(order));
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(column));
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(column);
    });
  });
}

document.querySelectorAll("table").forEach(sortable);

// Long tables, and figures on further targets, stand in the page compressed.
async function unpacked(held) {
  const bytes = Uint8Array.from(atob(held.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
async function place(held) {
  held.classList.remove("packed");
  const part = document.createElement("div");
  part.innerHTML = await unpacked(held);
  part.querySelectorAll("table").forEach(sortable);
  held.replaceWith(part);
}
document.addEventListener("toggle", (event) => {
  const held = event.target.open && event.target.querySelector(":scope > .packed");
  if (held) place(held);
}, true);
for (const held of document.querySelectorAll(".packed.now")) place(held);

// Figures: a click opens one as large as the window, a click there goes nearer.
const dialog = document.querySelector("dialog");
const stage = dialog.querySelector("div");
const close = dialog.querySelector("button");
document.addEventListener("click", (event) => {
  const button = event.target.closest(".zoom");
  if (!button) return;
  const svg = button.querySelector("svg").cloneNode(true);
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  stage.replaceChildren(svg);
  dialog.classList.remove("near");
  dialog.showModal();
});
close.addEventListener("click", () => dialog.close());
stage.addEventListener("click", (event) => {
  const box = stage.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width,
    (event.clientY - box.top) / box.height];
  if (!dialog.classList.toggle("near")) return;
  const far = (at, whole, shown) => Math.max(0, at * whole - shown / 2);
  dialog.scrollTo(far(x, dialog.scrollWidth, dialog.clientWidth),
    far(y, dialog.scrollHeight, dialog.clientHeight));
});
dialog.addEventListener("close", () => stage.replaceChildren());

// Parts: a link to one, or to something in one, opens what it lies in.
const reveal = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  const place = id && document.getElementById(id);
  if (!place) return;
  for (let at = place.querySelector(":scope > details.part") ?? place; at;
    at = at.parentElement) {
    if (at.tagName === "DETAILS") at.open = true;
  }
  place.scrollIntoView();
};
window.addEventListener("hashchange", reveal);
reveal();
const unfold = document.getElementById("unfold");
unfold.addEventListener("click", () => {
  const parts = [...document.querySelectorAll("details.part")];
  const open = parts.some((part) => !part.open);
  for (const part of parts) part.open = open;
  unfold.textContent = open ? "Fold all" : "Unfold all";
});

// Print shows what is folded away on the screen, but for tables of several pages: those
// are for sorting, and stand in report.json.
const PRINTED_ROWS = 40;
window.addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) {
    fold.open = !fold.querySelector(":scope > .packed")
      && fold.querySelectorAll("tbody tr").length <= PRINTED_ROWS;
  }
});
