"use strict";
// names the trial under the pointer, and marks it in every chart; the titles do so without a script
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
const marks = [...document.querySelectorAll("a.mark")];
for (const mark of marks) {
  const title = mark.querySelector("title");
  mark.setAttribute("aria-label", title.textContent);
  title.remove();
  mark.addEventListener("pointerenter", (event) => show(mark, event));
  mark.addEventListener("pointermove", (event) => move(event));
  mark.addEventListener("pointerleave", hide);
  mark.addEventListener("focus", () => show(mark, mark.getBoundingClientRect()));
  mark.addEventListener("blur", hide);
}
function show(mark, at) {
  for (const other of marks) {
    other.classList.toggle("same", other.dataset.trial === mark.dataset.trial);
  }
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  move(at);
}
function move(at) {
  const [x, y] = "clientX" in at ? [at.clientX, at.clientY] : [at.x, at.y];
  const width = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(8, Math.min(x + 12, width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y - tip.offsetHeight - 12 > 0 ? y - tip.offsetHeight - 12 : y + 16}px`;
}
function hide() {
  tip.hidden = true;
  for (const mark of marks) mark.classList.remove("same");
}

// served by `make ui` on another port than the usual one, the page leads to runs on its own
for (const link of document.querySelectorAll("a[href^='http://127.0.0.1:']")) {
  if (location.hostname === "127.0.0.1") {
    const path = link.getAttribute("href").replace(/^http:\/\/[^/]*/, "");
    link.setAttribute("href", location.origin + path);
  }
}

// sorts a table by the column whose head is chosen; numbers by their value, empty cells last
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!table.tHead || !body || body.rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const sign = down ? 1 : -1;
      const value = (row) => row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
        const [x, y] = [number(a), number(b)];
        return sign * (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y);
      });
      body.append(...rows);
    });
  });
}
function number(text) {
  const clock = /^(\d+):(\d\d)(?::(\d\d))?$/.exec(text);
  if (clock) return clock.slice(1).filter(Boolean).reduce((sum, part) => 60 * sum + Number(part), 0);
  return parseFloat(text.replace(/[(),]/g, ""));
}
