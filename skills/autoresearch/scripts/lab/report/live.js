// The served page: what runs now comes over events, and so does the report below when the journal grew.
(function () {
  var state = document.getElementById("live-state"), said = "";

  function fill(id, texts, tag, name) {
    var place = document.getElementById(id), all = document.createDocumentFragment();
    texts.forEach(function (text) {
      var made = document.createElement(tag);
      made.textContent = text;  // text is data: it never becomes markup
      if (name) { made.className = name; }
      all.appendChild(made);
    });
    place.replaceChildren(all);
  }
  function show(now) {
    if (state.textContent !== now.state) { state.textContent = now.state; }  // said again only when it changes
    document.getElementById("live-work").replaceChildren.apply(document.getElementById("live-work"), now.work.map(function (parts) {
      var box = document.createElement("p");
      parts.forEach(function (text, i) {
        var made = document.createElement(i ? "span" : "b");
        made.textContent = text;
        box.appendChild(made);
      });
      return box;
    }));
    fill("live-queue", now.queue, "p", "soft");
    if (said !== now.verdicts.join("\n")) { fill("live-verdicts", now.verdicts, "li"); }
    said = now.verdicts.join("\n");
    document.getElementById("live-machine").textContent = now.machine;
  }

  // What a reader has opened stays open, and the focus stays where it was.
  function place(box) { return box.id || box.className + "|" + box.querySelector("summary").textContent.replace(/\d+/g, ""); }
  function replace(text) {
    var fresh = new DOMParser().parseFromString(text, "text/html"), open = {}, at = document.activeElement;
    document.querySelectorAll("main details[open]").forEach(function (box) { open[place(box)] = true; });
    var focus = at && (at.id || (at.closest("details[id]") || {}).id), y = scrollY;
    var live = document.getElementById("live"), main = document.getElementById("main");
    var parts = Array.prototype.filter.call(fresh.getElementById("main").children, function (part) { return part.id !== "live"; });
    main.replaceChildren.apply(main, [live].concat(parts.map(function (part) { return document.adoptNode(part); })));
    document.querySelector("header").replaceWith(document.adoptNode(fresh.querySelector("header")));
    document.querySelector("footer").replaceWith(document.adoptNode(fresh.querySelector("footer")));
    document.title = fresh.title;
    document.querySelectorAll("main details").forEach(function (box) { box.open = !!open[place(box)]; });
    setUpPage();
    var again = focus && document.getElementById(focus);
    if (again) { (again.querySelector("summary") || again).focus({ preventScroll: true }); }
    scrollTo(0, y);
  }
  var source = new EventSource("/events" + location.search);
  source.addEventListener("present", function (event) { show(JSON.parse(event.data)); });
  source.addEventListener("report", function (event) {
    var sent = JSON.parse(event.data);
    replace(sent.page);
    document.body.dataset.shown = sent.seq;
  });
  source.onerror = function () { state.textContent = "No connection to the server: is `serve` still running?"; };
})();
