// What is selected -> all that is known of it, as tables.

function details(thing, app) {
  if (!thing) return NETS.map((net) => netDetails(net, app));
  return thing.is === "layer" ? layerDetails(thing, app) : groupDetails(thing, app);
}

function title(text, beside) {
  return html("h2", {}, html("bdi", { text }), beside ? html("small", { text: beside }) : null);
}

function table(heads, rows, attributes = {}) {
  const cells = (row, make) => html("tr", row.attributes ?? {}, ...(row.cells ?? row).map((cell) =>
    cell instanceof Node ? html(make, {}, cell) : html(make, {}, html("bdi", { text: String(cell) }))));
  return html("table", attributes, heads ? html("thead", {}, cells(heads, "th")) : null,
    html("tbody", {}, ...rows.map((row) => cells(row, "td"))));
}

function section(text, ...children) {
  return html("section", {}, html("h3", { text }), ...children);
}

// A layer's name that leads to it.
function link(layer, app) {
  return button(short(layer.name, 40), { class: "link", title: short(layer.name, 200) }, () => app.select(layer));
}

// ---- nets and groups

function netDetails(net, app) {
  const sum = (figure) => net.layers.reduce((n, l) => n + (l.figures?.[figure] ?? 0), 0);
  const least = net.unknown ? "at least " : "";
  const rows = [
    ["layers", net.layers.length.toLocaleString("en")],
    ["parameters", `${least}${sum(PARAMETERS).toLocaleString("en")}`],
    ["MACs", `${least}${sum(MACS).toLocaleString("en")}`],
    ["activations", `${least}${bytes(sum(ACTIVATIONS))}`],
  ];
  if (net.memory) rows.push(["memory, TEST", bytes(net.memory.test)], ["memory, training", bytes(net.memory.train)]);
  if (net.weights) rows.push(["weights", net.weights.source]);
  if (net.weights?.release) rows.push(["known as", net.weights.release]);
  const found = [
    ...(net.unknown ? [{ level: "warning", text: `shapes end: ${net.unknown}`, layers: [] }] : []),
    ...(net.weights?.misfit ? [{ level: "error", text: `the weights do not fit: ${net.weights.misfit}`, layers: [] }] : []),
    ...net.findings,
  ];
  const bad = net.layers.filter((layer) => net.state(layer));
  const kinds = new Map();
  for (const layer of net.layers) kinds.set(layer.kind, (kinds.get(layer.kind) ?? 0) + 1);
  return html("div", { class: "net" }, title(net.title, `${NETS.length > 1 ? `${"AB"[net.place]}, ` : ""}phase ${net.phase}`), table(null, rows, { class: "figures" }),
    NETS.length > 1 ? differences(net) : null,
    found.length ? section("what check finds", ...found.map((f) => finding(f, net, app))) : null,
    bad.length ? section("dead or exploding", html("ul", {}, ...bad.slice(0, 30).map((layer) =>
      html("li", {}, link(layer, app), ` ${net.state(layer)}`)), bad.length > 30 ? html("li", { text: `and ${bad.length - 30} more` }) : null)) : null,
    section("colours", html("ul", { class: "legend" }, ...[...kinds].map(([kind, n]) =>
      html("li", {}, html("i", { class: `key k-${kind}` }), `${kind} (${n})`)),
      net.layers.some((layer) => layer.reads.some(([, , isShort]) => isShort)) ? html("li", {}, html("i", { class: "key short" }), "shortcut") : null)));
}

function differences(net) {
  const kinds = [["same", "are the same"], ["name", "differ in name only"], ["fields", "differ in fields or shapes"], ["only", "are in this net only"]];
  const rows = kinds.map(([kind, words]) => [String(net.layers.filter((l) => l.differs === kind).length),
    html("span", {}, html("i", { class: `key d-${kind}` }), words)]);
  const parts = net.parts.filter((part) => differs(part)).length;
  rows.push([String(parts), html("span", {}, html("i", { class: "key d-within" }), "parts have layers that differ")]);
  return section("against the other net", table(null, rows, { class: "differences" }),
    html("p", { text: net.place === 0 ? (net.parted ? `They part: ${net.parted}` : "They compute the same, names aside.") : "" }));
}

function finding({ level, text, layers }, net, app) {
  return html("div", { class: `finding ${level}`, role: "note" }, html("b", { text: `${level} ` }), html("bdi", { text }),
    html("div", {}, ...layers.slice(0, 6).map((i) => link(net.layers[i], app)), layers.length > 6 ? ` and ${layers.length - 6} more` : null));
}

function groupDetails(thing, app) {
  const { net } = thing;
  const layers = net.members(thing).map((i) => net.layers[i]);
  const name = thing.is === "unit" ? `${thing.part.name}, ${thing.name}` : thing.name;
  const share = (figure) => {
    const all = net.layers.reduce((n, l) => n + (l.figures?.[figure] ?? 0), 0);
    return all ? ` (${Math.round((100 * net.total(thing, figure)) / all)} %)` : "";
  };
  const rows = [
    ["layers", layers.length],
    ["parameters", net.total(thing, PARAMETERS).toLocaleString("en") + share(PARAMETERS)],
    ["MACs", net.total(thing, MACS).toLocaleString("en") + share(MACS)],
    ["activations", bytes(net.total(thing, ACTIVATIONS)) + share(ACTIVATIONS)],
    ["output", net.shape(thing.layers[thing.layers.length - 1]) || "not known"],
  ];
  if (thing.kind === "residual") rows.push(["shortcut", thing.beside || "identity"]);
  if (NETS.length > 1) rows.push(["differ from the other net", counted(net.differing(thing), "layer")]);
  const found = [...new Set(layers.flatMap((layer) => layer.findings))];
  return [title(name, thing.is), table(null, rows, { class: "figures" }),
    html("p", {}, button(net.open.has(thing) ? "close" : "open", {}, () => app.toggle(thing))),
    found.length ? section("what check finds", ...found.map((f) => finding(f, net, app))) : null,
    section("layers", table(["layer", "what", "output"], layers.slice(0, 200).map((layer) =>
      [link(layer, app), layer.label, net.shape(layer.i)]), { class: "layers" }),
      layers.length > 200 ? html("p", { text: `and ${layers.length - 200} more` }) : null)];
}

// ---- a layer

function layerDetails(layer, app) {
  const { net } = layer, other = app.partner(layer);
  const figures = layer.figures;
  const size = (item, figure) => (item.figures ? (figure >= ACTIVATIONS ? bytes(item.figures[figure]) : item.figures[figure].toLocaleString("en")) : "not known");
  const rows = [["parameters", PARAMETERS], ["statistics", STATISTICS], ["MACs", MACS], ["activations", ACTIVATIONS], ["weights", WEIGHTS]]
    .filter(([, figure]) => figures === null || figures[figure] || other?.figures?.[figure])
    .map(([name, figure]) => both([name, size(layer, figure)], other && size(other, figure)));
  const heads = other ? ["", layer.net.place ? "B" : "A", layer.net.place ? "A" : "B"] : null;
  const reads = layer.reads.map(([i, top, isShort]) => [net.layers[i].tops[top][0], link(net.layers[i], app),
    net.layers[i].tops[top][1] || "?", ...(isShort ? [html("b", { class: "is-short", text: "shortcut" })] : [])]);
  const writes = layer.tops.map(([name, shape]) => [name, shape || "?"]);
  const shownSides = sides(layer, other), withWeights = shownSides.some((side) => side.net.weights);
  const itsBlobs = shownSides.map((side) => blobs(side, `blobs${which(side, shownSides)}`));
  return [
    title(layer.name, layer.type),
    html("p", { class: "what", text: `${layer.label === layer.type ? "" : `${layer.label}; `}${layer.unit.part.name}${layer.unit.part.staged ? `, ${layer.unit.name}` : ""}` }),
    layer.differs ? html("p", { class: `d-${layer.differs}`, text: DIFFERS[layer.differs] + (layer.differs === "name" ? `: ${short(other.name, 100)}` : "") }) : null,
    ...layer.findings.map((f) => finding(f, net, app)),
    ...shownSides.filter((side) => side.values?.length).map((side) =>
      section(`activations${which(side, shownSides)}`, ...side.values.map((v, t) => activation(side, v, t, app)))),
    section("shapes", layer.reads.length ? table(["reads", "of", "shape"], reads, { class: "shapes" }) : null, table(["writes", "shape"], writes, { class: "shapes" }),
      layer.readers.length ? html("p", {}, "read by ", ...[...new Set(layer.readers)].slice(0, 8).flatMap((i) => [link(net.layers[i], app), " "])) : null),
    rows.length ? section("figures", table(heads, rows, { class: "figures" })) : null,
    ...(withWeights ? itsBlobs : []),
    fields(layer, other),
    ...(withWeights ? [] : itsBlobs),
  ];
}

const DIFFERS = {
  same: "the same in the other net", name: "the same in the other net, by another name",
  fields: "differs from the other net", only: "not in the other net",
};

function both(cells, other) {
  if (other === null || other === undefined) return cells;
  return { cells: [...cells, other], attributes: { class: cells[1] === other ? "" : "differs" } };
}

// The fields that were set, then Caffe's defaults for the others; beside them the other net's.
function fields(layer, other) {
  const own = layer.net.details[layer.details];
  const theirs = other && new Map(other.net.details[other.details].map(([name, value]) => [name, value]));
  const names = new Set(own.map(([name]) => name));
  const lacking = other ? other.net.details[other.details].filter(([name]) => !names.has(name)).map(([name, , set]) => [name, MINUS, set]) : [];
  const all = [...own, ...lacking].sort((a, b) => b[2] - a[2]);
  const rows = all.map(([name, value, set]) => {
    const theirValue = theirs ? theirs.get(name) ?? MINUS : null;
    const kinds = [set ? "set" : "default", theirs && theirValue !== value ? "differs" : ""];
    const dot = name.indexOf(".");
    const shown = name.endsWith("_param") || dot < 0 ? name : name.slice(dot + 1);
    return { cells: [html("bdi", { text: shown, title: name }), value, ...(theirs ? [theirValue] : []), set ? "set" : "default"], attributes: { class: kinds.join(" ") } };
  });
  if (!rows.length) return section("parameters", html("p", { text: "none" }));
  const heads = theirs ? ["field", layer.net.place ? "B" : "A", layer.net.place ? "A" : "B", ""] : ["field", "value", ""];
  return section("parameters and Caffe's defaults", table(heads, rows, { class: "fields" }));
}

// A layer, and the other net's where that is worth a section of its own.
function sides(layer, other) {
  return other && (other.weights || other.values) ? [layer, other] : [layer];
}

function which(side, all) {
  return all.length > 1 ? ` of ${"AB"[side.net.place]}` : "";
}

function blobs(layer, title = "blobs") {
  if (!layer.blobs.length && !layer.weights?.length) return null;
  const stored = new Map((layer.weights ?? []).map(([name, shape, profile]) => [name, [shape, profile]]));
  const parts = [];
  for (const [name, shape, others] of layer.blobs) {
    parts.push(html("h4", {}, html("bdi", { text: name }), html("small", { text: ` ${shape}${others ? `, one with ${others}` : ""}` })));
    if (stored.has(name)) parts.push(profileOf(stored.get(name)[1]));
    else if (layer.net.weights) parts.push(html("p", { text: "not in the weights" }));
    stored.delete(name);
  }
  for (const [name, [shape, profile]] of stored)
    parts.push(html("h4", {}, html("bdi", { text: name }), html("small", { text: ` ${shape}, only in the weights` })), profileOf(profile));
  return section(title, ...parts);
}

// ---- values

function percent(part, all) {
  if (!part) return "none";
  const share = (100 * part) / all;
  return `${share < 0.1 ? "< 0.1" : share > 99.9 && part < all ? "> 99.9" : Number(share.toFixed(1))} % (${part.toLocaleString("en")})`;
}

function profileOf(profile) {
  const rows = [["range", `${number(profile.min)} to ${number(profile.max)}`], ["mean", number(profile.mean)], ["zeros", percent(profile.zeros, profile.n)]];
  rows.push({ cells: ["not finite", percent(profile.not_finite, profile.n)], attributes: { class: profile.not_finite ? "bad" : "" } });
  return html("div", { class: "profile" }, histogram(profile), table(null, rows, { class: "figures" }));
}

// Bars of how many values fall where; 0 is marked.
function histogram({ counts, min, max, n }) {
  const most = Math.max(...counts, 1), wide = 240, high = 56, step = wide / counts.length;
  const chart = svg("svg", { class: "histogram", viewBox: `0 0 ${wide} ${high + 14}`, role: "img",
    "aria-label": `histogram of ${counted(n, "value")} from ${number(min)} to ${number(max)}` });
  counts.forEach((count, i) => {
    if (!count) return;
    const tall = Math.max(1, (count / most) * high);
    chart.append(svg("rect", { x: i * step, y: high - tall, width: step - 0.7, height: tall },
      svg("title", { text: counted(count, "value") })));
  });
  if (min < 0 && max > 0) chart.append(svg("path", { class: "zero", d: `M${(-min / (max - min)) * wide} 0V${high}` }));
  chart.append(svg("text", { x: 0, y: high + 12, text: number(min) }), svg("text", { x: wide, y: high + 12, class: "end", text: number(max) }));
  return chart;
}

function activation(layer, values, t, app) {
  const parts = [html("h4", {}, html("bdi", { text: layer.tops[t][0] }), values.state ? html("b", { class: "bad", text: ` ${values.state}` }) : null)];
  if (values.maps) parts.push(featureMaps(values.maps));
  else if (values.last !== layer.i && values.channels) parts.push(html("p", {}, "its maps are those of ", link(layer.net.layers[values.last], app)));
  parts.push(profileOf(values));
  if (values.dead) parts.push(html("p", { class: values.dead === values.channels ? "bad" : "", text: `${values.dead} of ${counted(values.channels, "channel")} ${values.dead === 1 ? "has" : "have"} one value only` }));
  if (values.top.length) parts.push(table(["largest", "value"], values.top.map(([i, value]) => [i, number(value)])));
  return html("div", {}, ...parts);
}

// The maps of an image's first channels, as grey pixels.
function featureMaps({ n, rows, columns, data }) {
  const levels = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  const box = html("div", { class: "maps", role: "img", "aria-label": `${n} feature maps` });
  for (let m = 0; m < n; m++) {
    const canvas = html("canvas", { width: columns, height: rows, title: `channel ${m}` });
    const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
    for (let p = 0; p < rows * columns; p++) {
      const level = levels[m * rows * columns + p];
      image.data.set([level, level, level, 255], p * 4);
    }
    pen.putImageData(image, 0, 0);
    box.append(canvas);
  }
  return box;
}
