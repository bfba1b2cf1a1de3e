// A net as it is laid out -> SVG that pans and zooms; only what can be seen is there.

const MARGIN = 400; // beyond the window, in its own pixels
const SMALLEST = 0.03; // of the drawing; a net of thousands of layers is seen in part
const PLAIN = 0.3; // smaller than this, boxes are drawn without what is written in them
const TINY = 0.12; // smaller than this, without lines, which would be all that is seen
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

class Graph {
  constructor(net, app) {
    this.net = net;
    this.app = app;
    this.drawn = new Map();
    this.world = svg("g");
    this.under = svg("g");
    this.over = svg("g");
    this.lanes = svg("g");
    this.world.append(this.under, this.lanes, this.over);
    const arrow = (id) =>
      svg("marker", { id: `${id}${net.place}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto" },
        svg("path", { d: "M0 0L8 4L0 8z", class: id }));
    this.svg = svg("svg", { tabindex: 0, role: "application", "aria-label": `drawing of ${short(net.title, 60)}; arrows move, enter opens and closes` },
      svg("defs", {}, arrow("arrow"), arrow("shortcut")), this.world);
    this.zoom = d3.zoom()
      .scaleExtent([SMALLEST, 3])
      .filter((event) => !event.button && event.type !== "wheel" && event.type !== "dblclick")
      .on("zoom", ({ transform }) => this.moved(transform));
    this.selection = d3.select(this.svg).call(this.zoom);
    this.svg.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.svg.addEventListener("click", (event) => this.clicked(event));
    this.svg.addEventListener("dblclick", (event) => {
      const thing = this.thingAt(event);
      if (thing) app.toggle(thing);
    });
    this.transform = d3.zoomIdentity;
  }

  // ---- moving

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey) {
      const factor = 2 ** (-event.deltaY * unit * 0.004);
      this.zoom.scaleBy(this.selection, factor, d3.pointer(event, this.svg));
    } else {
      const k = this.transform.k;
      const [dx, dy] = event.shiftKey ? [event.deltaY, event.deltaX] : [event.deltaX, event.deltaY];
      this.zoom.translateBy(this.selection, (-dx * unit) / k, (-dy * unit) / k);
    }
  }

  moved(transform) {
    this.transform = transform;
    this.world.setAttribute("transform", transform.toString());
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
      this.app.bars[this.net.place].drawWindow();
    });
  }

  size() {
    return [this.svg.clientWidth || 600, this.svg.clientHeight || 600];
  }

  go(transform, smooth) {
    const to = smooth && !CALM.matches ? this.selection.transition().duration(220) : this.selection;
    to.call(this.zoom.transform, transform);
  }

  // See all of it, or all of its width where it would be too small to read.
  fit(smooth, all = true) {
    const [w, h] = this.size(), { left, right, high } = this.places;
    const wide = (w - 24) / (right - left), tall = (h - 40) / Math.max(high, 1);
    const k = all ? Math.max(SMALLEST, Math.min(1, wide, tall)) : Math.min(1, wide, Math.max(tall, 0.62));
    const top = Math.max(20, (h - high * k) / 2);
    this.go(d3.zoomIdentity.translate(w / 2 - ((left + right) / 2) * k, top).scale(k), smooth);
  }

  scaleBy(factor) {
    this.zoom.scaleBy(this.selection, factor);
  }

  // Bring a thing that is seen to the middle, if it is not in the window.
  reveal(thing, smooth = true) {
    const box = this.boxOf(thing);
    if (!box) return;
    const [w, h] = this.size();
    const k = Math.max(this.transform.k, 0.6);
    const [x0, y0] = this.transform.apply([box.x, box.y]);
    const inside = k === this.transform.k && x0 > 60 && x0 < w - 60 && y0 > 30 && y0 < h - 30;
    if (inside) return;
    const { left, right } = this.places;
    const x = (right - left) * k < w ? ((left + right) / 2) * k : box.x * k;
    const y = box.high * k > h * 0.8 ? box.top * k - h * 0.1 : box.y * k - h / 2;
    this.go(d3.zoomIdentity.translate(w / 2 - x, -y).scale(k), smooth);
  }

  boxOf(thing) {
    for (const item of this.places.items) {
      if (item.thing === thing) return { x: 0, y: item.y + item.high / 2, top: item.y, high: item.high };
      if (item.inner && thing.is === "layer") {
        const n = item.inner.layers.indexOf(thing.i);
        if (n >= 0) {
          const node = item.inner.nodes[n];
          return { x: node.x, y: item.y + HEAD + node.y, top: item.y + HEAD + node.y - LAYER_HIGH / 2, high: LAYER_HIGH };
        }
      }
    }
    const frame = this.places.frames.find((f) => f.thing === thing);
    return frame && { x: 0, y: frame.y + 20, top: frame.y, high: Math.min(frame.high, 40) };
  }

  // ---- drawing

  // Lay out what is open now; a thing stays where it is in the window, if one is given.
  layout(anchor = null) {
    const before = anchor && this.places && this.boxOf(anchor);
    this.places = layoutOf(this.net);
    this.drawn.clear();
    for (const group of [this.under, this.over, this.lanes]) group.replaceChildren();
    const { left, right, high } = this.places;
    const [w, h] = this.size();
    this.zoom.translateExtent([[left - w, -h], [right + w, high + h]]);
    const after = anchor && this.boxOf(anchor);
    if (before && after) {
      const { k, x, y } = this.transform;
      this.transform = d3.zoomIdentity.translate(x, y + (before.top - after.top) * k).scale(k);
      this.selection.call(this.zoom.transform, this.transform);
    }
    this.draw();
  }

  // Make what has come into the window, and drop what has left it.
  draw() {
    if (!this.places) return;
    const [, h] = this.size(), { k } = this.transform;
    const [top, bottom] = [this.transform.invertY(-MARGIN), this.transform.invertY(h + MARGIN)];
    const plain = k < PLAIN;
    this.svg.classList.toggle("far", plain);
    this.svg.classList.toggle("tiny", k < TINY);
    const { items, frames, lanes } = this.places;
    const wanted = new Map();
    for (let n = firstBelow(items, top); n < items.length && items[n].y - GAP <= bottom; n++) {
      const item = items[n];
      wanted.set(item, [this.over, () => this.item(item, plain), plain]);
    }
    for (const frame of frames)
      if (frame.y + frame.high >= top && frame.y <= bottom) wanted.set(frame, [this.under, () => this.frame(frame), false]);
    for (const lane of lanes)
      if (lane.bottom >= top && lane.top <= bottom) wanted.set(lane, [this.lanes, () => this.lane(lane), false]);
    for (const [place, known] of this.drawn)
      if (!wanted.has(place) || wanted.get(place)[2] !== known.plain) {
        known.node.remove();
        this.drawn.delete(place);
      }
    for (const [place, [group, make, isPlain]] of wanted)
      if (!this.drawn.has(place)) {
        const node = make();
        group.append(node);
        this.drawn.set(place, { node, plain: isPlain });
      }
    this.mark();
  }

  item(item, plain) {
    const { thing } = item;
    const group = svg("g", { transform: `translate(0 ${item.y})` });
    for (const edge of item.comes) {
      group.append(this.edge([{ ...edge.start, y: edge.start.y - item.y }, { ...edge.end, y: edge.end.y - item.y }], false, edge.end.goesOn));
      if (edge.text) group.append(svg("text", { class: "shape end", x: edge.start.x - 8, y: edge.below - item.y + 20, text: edge.text }));
    }
    if (item.inner) group.append(this.opened(item, plain));
    else group.append(thing.is === "part" ? this.part(item) : this.unit(item));
    return group;
  }

  // A rectangle that is a thing: it can be clicked, and shows what is wrong within.
  box(thing, x, y, width, height, kind) {
    const { net } = this;
    const group = svg("g", { class: `box ${kind} ${differs(thing)}`, "data-key": thing.key });
    group.append(svg("rect", { x, y, width, height, rx: 5 }));
    const worst = net.worst(thing), state = net.state(thing);
    if (worst) group.append(badge(x + width, y, worst[0] === "e" ? "!" : worst[0] === "w" ? "!" : "i", worst));
    if (state) group.append(badge(x + width - (worst ? 18 : 0), y, state === "dead" ? "0" : "\u221e", state));
    return group;
  }

  head(thing, x, y, text, beside) {
    const isOpen = this.net.open.has(thing);
    return [
      svg("g", { class: "toggle", "data-toggle": thing.key },
        svg("rect", { x: x + 5, y: y + 5, width: 17, height: 17, rx: 3 }),
        svg("path", { d: `M${x + 9.5} ${y + 13.5}h8${isOpen ? "" : `m-4 -4v8`}` })),
      svg("text", { class: "name", x: x + 28, y: y + 18, text: short(text, 30) }),
      beside ? svg("text", { class: "beside", x: -x - 8, y: y + 18, text: beside }) : null,
    ];
  }

  part(item) {
    const { thing, lines, high } = item;
    const box = this.box(thing, -WIDE / 2, 0, WIDE, high, thing.staged ? "stage" : "other");
    const n = thing.staged ? counted(thing.units.length, "unit") : counted(thing.layers.length, "layer");
    box.append(...this.head(thing, -WIDE / 2, 0, thing.name, n).filter(Boolean));
    lines.forEach((line, n) => {
      const y = HEAD + 14 + LINE * n;
      box.append(svg("text", { class: line.note ? "note" : "step", x: -WIDE / 2 + 28, y, text: short(line.text, 40) }));
      if (line.run && line.last) box.append(svg("text", { class: "run", x: WIDE / 2 - 12, y, text: `${TIMES} ${line.run}` }));
      if (line.run) box.append(bracket(-WIDE / 2 + 22, y, line.first, line.last, 1), bracket(WIDE / 2 - 48, y, line.first, line.last, -1));
    });
    return box;
  }

  unit(item) {
    const { thing, high } = item;
    const box = this.box(thing, -WIDE / 2, 0, WIDE, high, thing.kind === "residual" ? "residual" : "stage");
    box.append(...this.head(thing, -WIDE / 2, 0, thing.name, this.net.shape(thing.layers[thing.layers.length - 1])).filter(Boolean));
    box.append(svg("text", { class: "step", x: -WIDE / 2 + 28, y: HEAD + 12, text: short(thing.steps.join(" \u2192 "), 36) }));
    if (thing.kind !== "residual") return box;
    const x = WIDE / 2 + 20;
    const group = svg("g", {}, svg("path", { class: "edge is-short", "marker-end": `url(#shortcut${this.net.place})`,
      d: `M0 -14H${x - 8}q8 0 8 8V${high + 2}q0 8 -8 8H2` }), box);
    if (thing.beside) group.append(svg("text", { class: "shape is-short", x: x + 6, y: high / 2 + 4, text: short(thing.beside, 20) }));
    return group;
  }

  opened(item, plain) {
    const { thing, inner, left, right, high } = item;
    const group = this.box(thing, left, 0, right - left, high, "open");
    group.append(...this.head(thing, left, 0, thing.name, "").filter(Boolean));
    const inside = svg("g", { transform: `translate(0 ${HEAD})` });
    for (const { points, isShort } of inner.edges) inside.append(this.edge(points, isShort));
    inner.layers.forEach((i, n) => inside.append(this.layer(this.net.layers[i], inner.nodes[n], plain)));
    group.append(inside);
    return group;
  }

  layer(layer, { x, y, width, height }, plain) {
    const left = x - width / 2, top = y - height / 2;
    const box = this.box(layer, left, top, width, height, `k-${layer.kind}`);
    if (plain) return box;
    const shape = this.net.shape(layer.i);
    box.append(
      svg("text", { class: "name", x: left + 8, y: top + 16, text: short(layer.name, 24) }),
      svg("text", { class: "step", x: left + 8, y: top + 31, text: short(layer.label, 25 - Math.min(16, shape.length)) }),
      svg("text", { class: "beside", x: left + width - 8, y: top + 31, text: short(shape, 16) }));
    return box;
  }

  frame({ thing, y, high, left, right }) {
    const group = svg("g", { transform: `translate(0 ${y})` });
    const box = this.box(thing, left, 0, right - left, high, "frame");
    box.append(...this.head(thing, left, 0, `${thing.name}: ${counted(thing.units.length, "unit")}`, "").filter(Boolean));
    group.append(box);
    return group;
  }

  // An edge; one that goes on, into a layer of what is open, has no head.
  edge(points, isShort, goesOn = false) {
    const head = goesOn ? {} : { "marker-end": `url(#${isShort ? "shortcut" : "arrow"}${this.net.place})` };
    return svg("path", { class: isShort ? "edge is-short" : "edge", d: line(points), ...head });
  }

  // An edge beside the column: out to its lane, along it, and in wherever it is read.
  lane({ start, ends, x }) {
    const group = svg("g");
    for (const end of ends) {
      const points = [{ x: start.right, y: start.y - 8 }, { x, y: start.y - 8 }, { x, y: end.y - 12 }, { x: end.x, y: end.y - 12 }, end];
      group.append(this.edge(points, false, end.goesOn));
    }
    return group;
  }

  // Show what is selected and what was found by the search.
  mark() {
    const { selected, hits } = this.app;
    for (const { node } of this.drawn.values())
      for (const box of node.querySelectorAll(".box")) {
        const thing = this.net.things.get(box.dataset.key);
        box.classList.toggle("selected", thing === selected || (selected && this.app.partner(selected) === thing));
        box.classList.toggle("hit", hits.has(thing));
      }
  }

  // ---- clicks

  thingAt(event) {
    const key = event.target.closest("[data-key]")?.dataset.key;
    return key ? this.net.things.get(key) : null;
  }

  clicked(event) {
    const toggle = event.target.closest("[data-toggle]")?.dataset.toggle;
    if (toggle) return this.app.toggle(this.net.things.get(toggle));
    const thing = this.thingAt(event);
    return this.app.select(thing ?? null, { net: this.net, reveal: false });
  }
}

function firstBelow(items, top) {
  let low = 0, high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].y + items[middle].high < top) low = middle + 1;
    else high = middle;
  }
  return low;
}

function line(points) {
  if (points.length === 2 && Math.abs(points[0].x - points[1].x) < 1) return `M${points[0].x} ${points[0].y}V${points[1].y}`;
  let path = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length - 1; i++) {
    const [a, b, c] = [points[i - 1], points[i], points[i + 1]];
    const cut = (p, q) => {
      const far = Math.hypot(q.x - p.x, q.y - p.y) || 1, r = Math.min(12, far / 2);
      return [p.x + ((q.x - p.x) * r) / far, p.y + ((q.y - p.y) * r) / far];
    };
    const [x0, y0] = cut(b, a), [x1, y1] = cut(b, c);
    path += `L${x0} ${y0}Q${b.x} ${b.y} ${x1} ${y1}`;
  }
  const end = points[points.length - 1];
  return `${path}L${end.x} ${end.y}`;
}

function bracket(x, y, first, last, side) {
  const top = y - 13, bottom = y + 4;
  const d = `${first ? `M${x + 5 * side} ${top}H${x}` : `M${x} ${top}`}V${bottom}${last ? `H${x + 5 * side}` : ""}`;
  return svg("path", { class: "bracket", d });
}

function badge(x, y, text, kind) {
  return svg("g", { class: `badge ${kind}` }, svg("circle", { cx: x - 2, cy: y + 2, r: 8 }), svg("text", { x: x - 2, y: y + 6, text }),
    svg("title", { text: kind }));
}

// How a thing differs from the other net's: a class.
function differs(thing) {
  if (thing.is === "layer") return thing.differs ? `d-${thing.differs}` : "";
  return thing.net.differing(thing) ? "d-within" : "";
}
