"use strict";
// Called again when a served page is replaced by a newer one: what was filtered and sorted stays so.
var kept = { kind: "", words: "", column: 0, down: false };
function setUpPage() {
  var table = document.getElementById("runs"), body = table.tBodies[0];
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  var rows = Array.prototype.slice.call(body.rows);
  var texts = null, kind = kept.kind, input = document.getElementById("filter"), found = document.getElementById("found");
  document.querySelector(".tools").hidden = false;

  function value(row, column) {
    var text = row.cells[column].textContent.trim();
    var number = parseFloat(text.replace("\u2212", "-").replace(/^e(?=\d)/, ""));
    return isNaN(number) ? text.toLowerCase() : number;
  }
  function sort(column, down) {
    var head = heads[column];
    kept.column = column;
    kept.down = down;
    heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    var keyed = rows.map(function (row) { return [value(row, column), row]; });
    keyed.sort(function (a, b) {
      var x = a[0], y = b[0];
      if (x === "" || x === "–" || y === "" || y === "–") {  // what has no value stays at the end
        return (x === "" || x === "–" ? 1 : 0) - (y === "" || y === "–" ? 1 : 0);
      }
      if (typeof x !== typeof y) { return typeof x === "number" ? -1 : 1; }
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    var all = document.createDocumentFragment();
    keyed.forEach(function (pair) { all.appendChild(pair[1]); });
    body.appendChild(all);
  }
  heads.forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) { button.appendChild(head.firstChild); }
    head.appendChild(button);
    button.addEventListener("click", function () {
      sort(column, head.getAttribute("aria-sort") === "ascending");
      button.focus();
    });
  });

  function filter() {
    kept.kind = kind;
    kept.words = input.value;
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), count = 0;
    texts = texts || rows.map(function (row) { return row.textContent.toLowerCase(); });
    rows.forEach(function (row, i) {
      var shown = (!kind || row.classList.contains(kind)) && words.every(function (w) { return texts[i].indexOf(w) >= 0; });
      row.hidden = !shown;
      count += shown ? 1 : 0;
    });
    found.textContent = kind || words.length ? count + " of " + rows.length : "";
  }
  input.addEventListener("input", filter);
  document.querySelectorAll(".kinds button").forEach(function (button) {
    button.addEventListener("click", function () {
      kind = button.dataset.kind;
      press();
      filter();
    });
  });
  function press() {
    document.querySelectorAll(".kinds button").forEach(function (b) { b.setAttribute("aria-pressed", b.dataset.kind === kind); });
  }
  table.querySelectorAll("th a").forEach(function (link) {
    if (!document.getElementById(link.hash.slice(1))) { link.replaceWith(link.textContent); }
  });
  if (kept.column || kept.down) { sort(kept.column, kept.down); }
  if (kept.kind || kept.words) {
    input.value = kept.words;
    press();
    filter();
  }
}

(function () {
  setUpPage();

  // A link to an experiment opens it, and every fold around it.
  function reveal() {
    var place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place || !place.classList.contains("exp")) { return; }
    for (var box = place; box; box = box.parentElement) { if (box.tagName === "DETAILS") { box.open = true; } }
    place.scrollIntoView();
    place.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", reveal);
  if (location.hash) { reveal(); }

  // On paper the parts that carry the argument are open.
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details[data-print]").forEach(function (box) { box.open = true; });
  });

  // What is new since this reader last looked; browsers that keep nothing for files show nothing.
  try {
    var name = "autoresearch " + document.body.dataset.campaign, now = +document.body.dataset.seen;
    var before = JSON.parse(localStorage.getItem(name) || "null");
    if (before && before.count < now) {
      var line = document.getElementById("since");
      line.textContent = (now - before.count) + " new experiments since you last looked, " + before.at + ".";
      line.hidden = false;
      document.querySelectorAll("#runs tbody tr").forEach(function (row) {
        if (+row.cells[0].textContent.trim().slice(1) >= before.count) { row.classList.add("new"); }
      });
    }
    if (!before || before.count !== now) {
      localStorage.setItem(name, JSON.stringify({ count: now, at: new Date().toLocaleString() }));
    }
  } catch (ignored) { /* no storage */ }
})();
