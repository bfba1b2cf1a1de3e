// Figures along a net, layer by layer -> bars on a canvas; a click goes to the layer.

const ROW = 34, LABEL = 96;

class Bars {
  constructor(net, app) {
    this.net = net;
    this.app = app;
    const rows = [["MACs", MACS], ["parameters", PARAMETERS], ["activations", ACTIVATIONS]];
    this.rows = rows.map(([name, figure]) => ({ name, value: (layer) => layer.figures?.[figure] ?? 0 }));
    if (net.layers.some((layer) => layer.values?.length)) this.rows.push({ name: "range", range: true });
    const sums = rows.map(([name, figure]) => `${name} ${thousands(net.layers.reduce((sum, l) => sum + (l.figures?.[figure] ?? 0), 0))}`);
    this.canvas = html("canvas", { role: "img", "aria-label": `bars along the net: ${sums.join(", ")}; the list has each layer's figures` });
    this.hint = html("div", { class: "hint", hidden: true });
    this.over = html("canvas", { class: "over", "aria-hidden": "true" });
    this.node = html("div", { class: "bars" }, this.canvas, this.over, this.hint);
    this.node.style.height = `${this.rows.length * ROW + 3}px`;
    this.swatch = (name) => {
      const node = html("i", { class: `swatch ${name}` });
      this.node.append(node);
      return node;
    };
    this.swatches = Object.fromEntries(["bar", "band", "dim", "ink", "window", "bad"].map((name) => [name, this.swatch(name)]));
    this.canvas.addEventListener("click", (event) => {
      const layer = this.at(event);
      if (layer) app.select(layer);
    });
    this.canvas.addEventListener("mousemove", (event) => this.tell(event));
    this.canvas.addEventListener("mouseleave", () => { this.hint.hidden = true; });
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  get width() {
    return Math.max(1, this.node.clientWidth - LABEL - 10);
  }

  x(i) {
    return LABEL + (i / Math.max(1, this.net.layers.length)) * this.width;
  }

  // The layer under the pointer; of several the one with most of that row's figure.
  at(event) {
    const n = this.net.layers.length;
    const from = Math.floor(((event.offsetX - LABEL - 1.5) / this.width) * n);
    const to = Math.max(from, Math.floor(((event.offsetX - LABEL + 1.5) / this.width) * n));
    const row = this.rows[Math.min(this.rows.length - 1, Math.floor(event.offsetY / ROW))];
    let best = null;
    for (let i = Math.max(0, from); i <= Math.min(n - 1, to); i++) {
      const layer = this.net.layers[i];
      if (!best || (row.value && row.value(layer) > row.value(best))) best = layer;
    }
    return event.offsetX < LABEL ? null : best;
  }

  tell(event) {
    const layer = this.at(event);
    this.hint.hidden = !layer;
    if (!layer) return;
    const figures = layer.figures ?? [];
    const values = layer.values?.[0];
    const range = values ? `, ${number(values.min)} to ${number(values.max)}` : "";
    this.hint.textContent = `${short(layer.name, 40)} (${short(layer.type, 30)}): ${thousands(figures[MACS] ?? 0)} MACs, `
      + `${thousands(figures[PARAMETERS] ?? 0)} parameters, ${bytes(figures[ACTIVATIONS] ?? 0)}${range}`;
    const room = this.node.clientWidth - this.hint.offsetWidth - 8;
    this.hint.style.left = `${Math.max(0, Math.min(event.offsetX + 12, room))}px`;
  }

  color(name) {
    return getComputedStyle(this.swatches[name]).color;
  }

  draw() {
    const wide = this.node.clientWidth, high = this.rows.length * ROW + 2, ratio = devicePixelRatio || 1;
    if (!wide) return;
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = wide * ratio;
      canvas.height = high * ratio;
      canvas.style.height = `${high}px`;
    }
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    const n = this.net.layers.length, dim = this.color("dim");
    pen.fillStyle = this.color("band");
    this.net.parts.forEach((part, p) => {
      const first = part.layers[0], last = part.layers[part.layers.length - 1];
      if (p % 2) pen.fillRect(this.x(first), 0, this.x(last + 1) - this.x(first), high);
    });
    this.rows.forEach((row, r) => {
      const bottom = (r + 1) * ROW;
      pen.fillStyle = this.color("ink");
      pen.fillText(row.name, 6, bottom - 17);
      pen.fillStyle = dim;
      if (row.range) {
        this.drawRange(pen, bottom, dim);
        return;
      }
      const columns = new Float64Array(Math.min(n, Math.ceil(this.width)) || 1);
      for (let i = 0; i < n; i++) columns[Math.floor((i / n) * columns.length)] += row.value(this.net.layers[i]);
      const most = largest(columns, 0);
      pen.fillText(`\u2264 ${row.name === "activations" ? bytes(most) : thousands(most)}`, 6, bottom - 5);
      pen.fillStyle = this.color("bar");
      const step = this.width / columns.length;
      columns.forEach((value, c) => {
        if (!value) return;
        const tall = Math.max(1, (value / most) * (ROW - 6));
        pen.fillRect(LABEL + c * step, bottom - tall, Math.max(0.7, step - (step > 3 ? 1 : 0)), tall);
      });
    });
    this.drawWindow();
  }

  // The range of each activation; signed logarithms, so that the small are seen beside the large.
  drawRange(pen, bottom, dim) {
    const log = (x) => Math.sign(x) * Math.log10(1 + Math.abs(x));
    const all = this.net.layers.flatMap((layer) => layer.values ?? []);
    const most = largest(all.map((v) => Math.max(Math.abs(log(v.min ?? 0)), Math.abs(log(v.max ?? 0)))), 1e-9);
    const middle = bottom - ROW / 2, y = (x) => middle - (log(x) / most) * (ROW / 2 - 3);
    pen.fillText(`\u00b1 ${number(10 ** most - 1)}, log`, 6, bottom - 5);
    const step = this.width / this.net.layers.length;
    for (const layer of this.net.layers) {
      const state = this.net.state(layer), x = this.x(layer.i), wide = Math.max(0.7, step - (step > 3 ? 1 : 0));
      for (const values of layer.values ?? []) {
        pen.fillStyle = this.color(state ? "bad" : "bar");
        if (state) pen.fillRect(x, bottom - ROW + 3, Math.max(2, wide), ROW - 3);
        else pen.fillRect(x, y(values.max ?? 0), wide, Math.max(1, y(values.min ?? 0) - y(values.max ?? 0)));
      }
    }
    pen.fillStyle = dim;
    pen.fillRect(LABEL, middle, this.width, 0.5);
  }

  // A frame around the layers that the drawing shows, and a line at the selected one.
  drawWindow() {
    const pen = this.over.getContext("2d"), ratio = devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.over.width, this.over.height);
    const graph = this.app.graphs[this.net.place];
    const [, h] = graph.size();
    const top = graph.transform.invertY(0), bottom = graph.transform.invertY(h);
    const items = graph.places?.items ?? [];
    const seen = items.filter((item) => item.y < bottom && item.y + item.high > top);
    const high = this.rows.length * ROW;
    pen.strokeStyle = this.color("window");
    if (seen.length && seen.length < items.length) {
      const first = -largest(seen.map((item) => -item.thing.layers[0]), -Infinity);
      const last = largest(seen.map((item) => item.thing.layers[item.thing.layers.length - 1]), 0);
      pen.strokeRect(this.x(first), 1, Math.max(3, this.x(last + 1) - this.x(first)), high - 1);
    }
    const chosen = this.app.selected && [this.app.selected, this.app.partner(this.app.selected)].find((t) => t?.net === this.net);
    if (chosen) {
      const places = this.net.members(chosen);
      pen.fillStyle = pen.strokeStyle;
      pen.fillRect(this.x(places[0]), high - 2, Math.max(3, this.x(places[places.length - 1] + 1) - this.x(places[0])), 4);
    }
  }
}
