// The page: what is selected, the list, the search, keys; it tells the parts of what has changed.

const FOUND = 60; // results of a search that are listed
const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.selected = null;
    this.hits = new Set();
    this.rows = new Map();
    this.active = NETS[0];
    this.graphs = NETS.map((net) => new Graph(net, this));
    this.bars = NETS.map((net) => new Bars(net, this));
    const names = NETS.map((net) => net.title);
    byId("title").append(...names.flatMap((name, n) => [n ? " / " : "", html("bdi", { text: short(name, 60), title: short(name, 500) })]));
    byId("panes").classList.toggle("two", NETS.length > 1);
    NETS.forEach((net, n) => {
      const letter = NETS.length > 1 ? html("h2", { class: "pane-title" }, `${"AB"[n]}: `, html("bdi", { text: short(net.title, 50) })) : null;
      const pane = html("section", { class: "pane", "aria-label": short(net.title, 60) }, letter, this.graphs[n].svg, this.bars[n].node);
      pane.addEventListener("pointerdown", () => this.activate(net));
      byId("panes").append(pane);
    });
    this.keys();
    this.search();
    this.tools();
    this.restore();
    this.graphs.forEach((graph) => { graph.layout(); graph.fit(false, false); });
    this.list();
    this.detail();
    addEventListener("resize", () => this.graphs.forEach((graph) => graph.draw()));
    requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = Math.round(performance.now()); }));
  }

  activate(net) {
    if (this.active === net) return;
    this.active = net;
    this.list();
  }

  partner(thing) {
    if (thing.is !== "layer" || !(thing.partner >= 0)) return null;
    return NETS[1 - thing.net.place].layers[thing.partner];
  }

  // ---- what is selected, what is open

  select(thing, { reveal = true, net = null } = {}) {
    this.selected = thing;
    if (thing) {
      this.active = thing.net;
      if (reveal || this.partner(thing)) this.show(thing, reveal);
    } else if (net) this.active = net;
    this.list();
    this.detail();
    this.graphs.forEach((graph) => graph.mark());
    this.bars.forEach((bars) => bars.drawWindow());
    byId("said").textContent = thing ? described(thing) : "nothing selected";
    this.keep();
  }

  // Open what a thing and its partner lie in, and bring both into their windows.
  show(thing, reveal) {
    for (const one of [thing, this.partner(thing)]) {
      if (!one || (one === thing && !reveal)) continue;
      const before = one.net.open.size;
      one.net.show(one);
      const graph = this.graphs[one.net.place];
      if (one.net.open.size !== before) graph.layout();
      graph.reveal(one);
    }
  }

  toggle(thing) {
    if (thing.is === "layer" || (thing.is === "unit" && !thing.part.staged)) return;
    const { net } = thing;
    if (net.open.has(thing)) net.open.delete(thing);
    else net.open.add(thing);
    this.graphs[net.place].layout(thing);
    this.select(thing, { reveal: false });
    byId("said").textContent = `${described(thing)}, ${net.open.has(thing) ? "open" : "closed"}`;
  }

  openAll(all) {
    for (const net of NETS) {
      net.openAll(all);
      if (!all && this.selected?.net === net) {
        while (net.above(this.selected)) this.selected = net.above(this.selected);
      }
      this.graphs[net.place].layout(this.selected?.net === net ? this.selected : null);
    }
    if (!all) this.graphs.forEach((graph) => graph.fit(true, false));
    this.list();
    this.detail();
    this.keep();
  }

  // ---- the list, which is the drawing in words

  list() {
    const box = byId("list"), net = this.active;
    const key = [net.place, ...[...net.open].map((thing) => thing.key)].join();
    if (key !== this.listed) {
      this.listed = key;
      const focused = box.contains(document.activeElement);
      this.rows = new Map([...net.seen()].map(([thing, level]) => [thing, listRow(thing, level)]));
      box.replaceChildren(html("div", { role: "tree", "aria-label": `parts of ${short(net.title, 60)}` }, ...this.rows.values()));
      this.row = null;
      if (focused) this.focus = true;
    }
    if (this.row) {
      this.row.setAttribute("aria-selected", "false");
      this.row.tabIndex = -1;
    }
    const chosen = this.rows.get(this.selected);
    this.row = chosen ?? this.rows.values().next().value;
    if (!this.row) return;
    this.row.tabIndex = 0;
    this.row.setAttribute("aria-selected", String(Boolean(chosen)));
    if (this.focus || box.contains(document.activeElement)) this.row.focus({ preventScroll: true });
    this.focus = false;
    if (chosen) chosen.scrollIntoView({ block: "nearest" });
  }

  detail() {
    const parts = details(this.selected, this);
    byId("details").replaceChildren(...parts.filter(Boolean));
    byId("details").scrollTop = 0;
  }

  // ---- keys

  keys() {
    const move = (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const seen = [...this.active.seen()].map(([thing]) => thing);
      const n = seen.indexOf(this.selected), thing = n < 0 ? null : this.selected, net = this.active;
      const to = (next) => next && this.select(next);
      const acts = {
        ArrowDown: () => to(seen[Math.min(seen.length - 1, n + 1)]),
        ArrowUp: () => to(seen[Math.max(0, n - 1)]),
        Home: () => to(seen[0]),
        End: () => to(seen[seen.length - 1]),
        ArrowRight: () => thing && (net.open.has(thing) ? to(net.inside(thing)[0]) : this.toggle(thing)),
        ArrowLeft: () => thing && (net.open.has(thing) ? this.toggle(thing) : to(net.above(thing))),
        Enter: () => thing && (thing.is === "layer" ? byId("details").focus() : this.toggle(thing)),
        " ": () => thing && this.toggle(thing),
        "+": () => this.graphs[net.place].scaleBy(1.25),
        "-": () => this.graphs[net.place].scaleBy(0.8),
        0: () => this.graphs[net.place].fit(true),
      };
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
    };
    byId("list").addEventListener("keydown", move);
    byId("list").addEventListener("click", (event) => {
      const key = event.target.closest("[data-key]")?.dataset.key;
      if (!key) return;
      const thing = this.active.things.get(key);
      const arrow = event.target.closest("[aria-expanded]") && event.clientX < event.target.closest("[data-key]").firstChild.getBoundingClientRect().left;
      if (arrow || event.detail === 2) this.toggle(thing);
      else this.select(thing);
    });
    this.graphs.forEach((graph, n) => graph.svg.addEventListener("keydown", (event) => {
      this.active = NETS[n];
      move(event);
    }));
    document.addEventListener("keydown", (event) => {
      const typing = event.target === byId("search");
      if (event.key === "/" && !typing) {
        event.preventDefault();
        byId("search").select();
        byId("search").focus();
      } else if (event.key === "Escape" && !typing) {
        if (byId("details").contains(document.activeElement)) byId("list").querySelector("[tabindex='0']")?.focus();
        else this.select(null);
      }
    });
  }

  // ---- search

  search() {
    const input = byId("search"), box = byId("found");
    let results = [], at = -1;
    const point = (n) => {
      at = n;
      [...box.querySelectorAll("[role=option]")].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
      const row = box.children[at];
      if (row) { row.scrollIntoView({ block: "nearest" }); input.setAttribute("aria-activedescendant", row.id); }
      else input.removeAttribute("aria-activedescendant");
    };
    const hide = () => { box.hidden = true; input.setAttribute("aria-expanded", "false"); };
    const choose = (layer) => {
      this.hits.clear();
      this.select(layer);
      this.row?.focus({ preventScroll: true });
      hide();
    };
    const look = () => {
      const all = found(input.value);
      results = all.slice(0, FOUND);
      this.hits = new Set(all);
      this.graphs.forEach((graph) => graph.mark());
      box.replaceChildren(...results.map((layer, n) => html("div", { role: "option", id: `found${n}`, "aria-selected": "false" },
        NETS.length > 1 ? html("small", { text: "AB"[layer.net.place] }) : null, html("bdi", { text: short(layer.name, 44) }), html("small", { text: short(layer.type, 24) }))));
      if (all.length > results.length) box.append(html("p", { text: `and ${all.length - results.length} more` }));
      if (input.value && !all.length) box.append(html("p", { text: "nothing found" }));
      box.hidden = !input.value;
      input.setAttribute("aria-expanded", String(!box.hidden));
      byId("said").textContent = input.value ? counted(all.length, "layer") + " found" : "";
      point(results.length ? 0 : -1);
    };
    input.addEventListener("input", look);
    input.addEventListener("focus", () => input.value && look());
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (results.length) point((at + (event.key === "ArrowDown" ? 1 : results.length - 1)) % results.length);
      } else if (event.key === "Enter" && results[at]) {
        choose(results[at]);
      } else if (event.key === "Escape") {
        input.value = "";
        look();
        byId("list").querySelector("[tabindex='0']")?.focus();
      }
    });
    box.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const row = event.target.closest("[role=option]");
      if (!row) return;
      choose(results[[...box.children].indexOf(row)]);
    });
    input.addEventListener("blur", hide);
  }

  // ---- buttons, and what is kept over a reload

  tools() {
    const act = (id, what) => byId(id).addEventListener("click", what);
    act("open", () => this.openAll(true));
    act("close", () => this.openAll(false));
    act("in", () => this.graphs[this.active.place].scaleBy(1.3));
    act("out", () => this.graphs[this.active.place].scaleBy(1 / 1.3));
    act("fit", () => this.graphs.forEach((graph) => graph.fit(true)));
    act("theme", () => {
      const root = document.documentElement;
      const dark = root.style.colorScheme ? root.style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      this.theme(dark ? "light" : "dark");
      this.keep();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.bars.forEach((bars) => bars.draw()));
  }

  theme(name) {
    document.documentElement.style.colorScheme = name;
    this.bars.forEach((bars) => bars.draw());
  }

  keep() {
    const open = NETS.map((net) => [...net.open].map((thing) => thing.key));
    const selected = this.selected && [this.selected.net.place, this.selected.key];
    try {
      sessionStorage.setItem("view", JSON.stringify({ open, selected, theme: document.documentElement.style.colorScheme }));
    } catch {
      // a file may have no storage
    }
  }

  restore() {
    if (!DATA.live) return;
    try {
      const kept = JSON.parse(sessionStorage.getItem("view"));
      if (kept.theme) document.documentElement.style.colorScheme = kept.theme;
      kept.open.forEach((keys, n) => {
        NETS[n].open = new Set(keys.map((key) => NETS[n].things.get(key)).filter((thing) => thing && thing.is !== "layer"));
      });
      this.selected = kept.selected ? NETS[kept.selected[0]].things.get(kept.selected[1]) ?? null : null;
      if (this.selected) this.selected.net.show(this.selected);
    } catch {
      // nothing was kept, or of another net
    }
  }
}

// A row of the list; what a thing is can be heard from it too.
function listRow(thing, level) {
  const { net } = thing, isLayer = thing.is === "layer";
  const n = thing.is === "part" && thing.staged ? thing.units.length : net.members(thing).length;
  return html("div", {
    role: "treeitem", "aria-level": level, "aria-expanded": isLayer ? null : String(net.open.has(thing)), "aria-selected": "false",
    tabindex: -1, "data-key": thing.key, class: `level${level} ${differs(thing)} ${net.worst(thing)} ${net.state(thing)}`,
  }, html("bdi", { text: short(thing.name, 40) }), html("small", { text: isLayer ? short(thing.label, 24) : String(n) }));
}

// The layers that a text is found in: name, type, blobs; those that begin with it first.
function found(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const first = [], rest = [];
  for (const net of NETS)
    for (const layer of net.layers) {
      const words = [layer.name, layer.type, ...layer.tops.map(([name]) => name)].map((word) => word.toLowerCase());
      if (words.some((word) => word.startsWith(wanted))) first.push(layer);
      else if (words.some((word) => word.includes(wanted))) rest.push(layer);
    }
  return [...first, ...rest];
}

function described(thing) {
  const { net } = thing;
  if (thing.is === "layer") {
    const within = thing.unit.part.staged ? `${thing.unit.part.name}, ${thing.unit.name}` : thing.unit.part.name;
    return [short(thing.name, 80), thing.label, net.shape(thing.i), within, net.worst(thing), net.state(thing)].filter(Boolean).join(", ");
  }
  const what = thing.is === "part" && thing.staged ? counted(thing.units.length, "unit") : counted(thing.layers.length, "layer");
  return `${thing.is === "unit" ? `${thing.part.name}, ` : ""}${thing.name}, ${what}`;
}

new Page();
