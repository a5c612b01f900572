// Tables sort by the column that is clicked, or chosen by keyboard; figures by their value.
"use strict";
const figure = text => { const value = parseFloat(text.replace(/,/g, "")); return Number.isNaN(value) ? null : value; };
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const headings = [...heading.parentElement.cells], column = headings.indexOf(heading);
  const words = heading.classList.contains("words");
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const one of headings) one.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const keyOf = row => { const text = row.cells[column].textContent.trim(); return words ? text : figure(text); };
  const rows = [...body.rows].map((row, place) => ({ row, place, key: keyOf(row) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
    const order = words ? a.key.localeCompare(b.key, "en", { numeric: true }) : a.key - b.key;
    return (ascending ? order : -order) || a.place - b.place;
  });
  body.append(...rows.map(one => one.row));
}
for (const heading of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sortBy(heading));
  heading.append(button);
}
// What is folded on a screen is there on paper.
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const one of folded) one.open = true; });
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
