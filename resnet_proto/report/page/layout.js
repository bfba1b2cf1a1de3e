// What is seen of a net -> places: a column of boxes, and within open ones a drawing by dagre.
//
// The column is laid out here, so that a net of thousands of layers needs no layout of them all;
// units that are alike have one layout. y goes down, x is 0 in the middle of the column.

const WIDE = 270, LAYER_WIDE = 196, LAYER_HIGH = 38, UNIT_HIGH = 50, LINE = 17;
const GAP = 34, HEAD = 26, INSET = 14, LANE = 14, FAR_FROM_COLUMN = 26;
const MANY = 400; // layers of a part that dagre lays out; more stand in a row

const innerLayouts = new Map();

// The layers of an open thing: nodes, edges, where edges come in and go out.
function innerLayout(net, layers) {
  const first = new Map(layers.map((i, n) => [i, n]));
  const sources = []; // layers outside that are read
  const arrows = [];
  layers.forEach((i, n) => {
    for (const [source, top, isShort] of net.layers[i].reads) {
      if (first.has(source)) arrows.push([first.get(source), n, isShort, top]);
      else {
        if (!sources.includes(source)) sources.push(source);
        arrows.push([-1 - sources.indexOf(source), n, isShort, top]);
      }
    }
  });
  const key = JSON.stringify([layers.length, sources.length, arrows]);
  if (!innerLayouts.has(key)) innerLayouts.set(key, placed(layers.length, sources.length, arrows));
  return { ...innerLayouts.get(key), layers, sources };
}

// A shortcut is on the right of the main path, and that is straight. Where dagre puts the shortcut on
// the left, it is asked to keep to the other side, and mirrored.
function placed(n, nSources, arrows) {
  if (n > MANY) return inRow(n, arrows);
  const starts = new Set(arrows.filter((arrow) => arrow[2]).map(([from]) => from));
  const ends = new Set(arrows.filter((arrow) => arrow[2]).map(([, to]) => to));
  const onShortcut = (i) => starts.has(i) && ends.has(i);
  // An identity has no layers: it is drawn beside the others, without dagre.
  const beside = ([from, to, isShort]) => isShort && !ends.has(from) && !starts.has(to);
  const inner = arrows.filter((arrow) => !beside(arrow));
  const isResidual = starts.size > 0;
  let { nodes, edges, entries } = byDagre(n, nSources, inner, isResidual ? "UL" : undefined);
  const middle = (wanted) => {
    const own = nodes.filter((_, i) => onShortcut(i) === wanted);
    return own.reduce((sum, node) => sum + node.x, 0) / own.length;
  };
  let side = 1;
  if (middle(true) < middle(false)) {
    ({ nodes, edges, entries } = byDagre(n, nSources, inner, "UR"));
    side = -1;
  }
  const zero = (entries[0] ?? nodes[0]).x;
  const moved = (point) => ({ ...point, x: (point.x - zero) * side });
  const all = bounded(nodes.map(moved), edges.map((edge) => ({ ...edge, points: edge.points.map(moved) })), entries.map(moved));
  for (const [from, to, isShort, top] of arrows.filter(beside)) {
    const start = from < 0 ? all.entries[-1 - from] : all.nodes[from], end = all.nodes[to];
    const y = from < 0 ? start.y : start.y + LAYER_HIGH / 2 + 6, x = (all.right += 24);
    all.edges.push({ points: [{ x: start.x, y }, { x, y }, { x, y: end.y }, { x: end.x + LAYER_WIDE / 2, y: end.y }], from, to, isShort, top });
  }
  return all;
}

// Nodes, edges with their points, and where edges from outside begin, as dagre places them.
function byDagre(n, nSources, arrows, align) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ ranksep: 22, nodesep: 26, edgesep: 26, align });
  for (let s = 0; s < nSources; s++) graph.setNode(-1 - s, { width: 1, height: 1 });
  for (let i = 0; i < n; i++) graph.setNode(i, { width: LAYER_WIDE, height: LAYER_HIGH });
  arrows.forEach(([from, to, isShort], a) => graph.setEdge(from, to, { weight: isShort ? 1 : 10, a }, a));
  dagre.layout(graph);
  const edges = graph.edges().map((edge) => {
    const { points, a } = graph.edge(edge);
    const [from, to, isShort, top] = arrows[a];
    return { points, from, to, isShort, top };
  });
  return {
    nodes: Array.from({ length: n }, (_, i) => graph.node(i)), edges,
    entries: Array.from({ length: nSources }, (_, s) => graph.node(-1 - s)),
  };
}

// Layers one below another, for parts that are too large.
function inRow(n, arrows) {
  const nodes = [], step = LAYER_HIGH + 22;
  for (let i = 0; i < n; i++) nodes.push({ x: 0, y: step * i + LAYER_HIGH, width: LAYER_WIDE, height: LAYER_HIGH });
  const edges = [];
  for (const [from, to, isShort, top] of arrows) {
    if (from < 0) continue;
    const start = nodes[from].y + LAYER_HIGH / 2, end = nodes[to].y - LAYER_HIGH / 2;
    const side = LAYER_WIDE / 2 + 12 + ((to - from) % 7) * 8;
    const points = to === from + 1
      ? [{ x: 0, y: start }, { x: 0, y: end }]
      : [{ x: 0, y: start }, { x: side, y: start + 12 }, { x: side, y: end - 12 }, { x: 0, y: end }];
    edges.push({ points, from, to, isShort, top });
  }
  return bounded(nodes, edges, []);
}

function bounded(nodes, edges, entries) {
  let left = 0, right = 0, bottom = 0;
  for (const { x, y, width, height } of nodes) {
    left = Math.min(left, x - width / 2);
    right = Math.max(right, x + width / 2);
    bottom = Math.max(bottom, y + height / 2);
  }
  for (const { points } of edges)
    for (const { x } of points) { left = Math.min(left, x); right = Math.max(right, x); }
  return { nodes, edges, entries, left, right, bottom };
}

// The lines of a closed part's box: steps, how often they come, the note on shortcuts.
function linesOf(part) {
  const lines = part.runs.flatMap(([steps, n]) =>
    steps.map((step, i) => ({ text: step, run: n > 1 || part.runs.length > 1 && steps.length > 1 ? n : 0, first: i === 0, last: i === steps.length - 1 })));
  if (part.note) lines.push({ text: part.note, note: true });
  return lines;
}

// Everything that is seen: items from top to bottom, frames of open stages, edges that leave the column.
function layoutOf(net) {
  const items = [], frames = [];
  let y = 0;
  const add = (thing) => {
    if (net.open.has(thing)) {
      const inner = innerLayout(net, thing.layers);
      const high = HEAD + inner.bottom + INSET;
      items.push({ thing, inner, y, high, left: inner.left - INSET, right: inner.right + INSET });
      y += high + GAP;
    } else {
      const lines = thing.is === "part" ? linesOf(thing) : [];
      const high = thing.is === "part" ? HEAD + 8 + LINE * Math.max(1, lines.length) : UNIT_HIGH;
      const beside = thing.beside ? 12 + 7 * Math.min(20, thing.beside.length) : 0; // its shortcut's label
      items.push({ thing, lines, y, high, left: -WIDE / 2, right: WIDE / 2 + beside });
      y += high + GAP;
    }
  };
  for (const part of net.parts) {
    if (!part.staged || !net.open.has(part)) {
      add(part);
      continue;
    }
    const frame = { thing: part, y, first: items.length };
    y += HEAD + 16;
    part.units.forEach(add);
    frame.high = y - GAP + INSET - frame.y;
    frame.last = items.length - 1;
    items[frame.last].end = frame.y + frame.high; // what comes out of it comes out of the frame
    frames.push(frame);
    y += INSET;
  }
  let left = -WIDE / 2, right = WIDE / 2;
  for (const item of items) { left = Math.min(left, item.left); right = Math.max(right, item.right); }
  for (const frame of frames) {
    const own = items.slice(frame.first, frame.last + 1);
    frame.left = -largest(own.map((item) => INSET - item.left), 170);
    frame.right = largest(own.map((item) => item.right), 0) + INSET + FAR_FROM_COLUMN;
    left = Math.min(left, frame.left);
    right = Math.max(right, frame.right);
  }
  const lanes = connect(net, items);
  for (const lane of lanes) right = Math.max(right, lane.x + LANE);
  return { items, frames, lanes, left, right, high: Math.max(0, y - GAP) };
}

// Edges between items: into the next one they go straight down, others beside the column.
function connect(net, items) {
  const itemOf = new Map();
  items.forEach((item, n) => { for (const i of net.members(item.thing)) itemOf.set(i, n); });
  const far = new Map();
  items.forEach((item, n) => {
    item.comes = [];
    const sources = new Map();
    for (const i of net.members(item.thing))
      for (const [source, top, isShort] of net.layers[i].reads)
        if (itemOf.get(source) !== n) {
          const known = sources.get(source);
          sources.set(source, { top, isShort: (known?.isShort ?? 1) && isShort });
        }
    for (const [source, { top }] of sources) {
      const from = itemOf.get(source), start = exit(items[from], source), end = entry(item, source);
      const text = net.shape(source, top);
      if (from === n - 1 && start.bottom) item.comes.push({ start, end, text, below: items[from].end ?? items[from].y + items[from].high });
      else {
        const lane = far.get(source) ?? { start, ends: [], side: 0 };
        lane.ends.push(end);
        for (const passed of items.slice(from, n + 1)) lane.side = Math.max(lane.side, passed.right);
        far.set(source, lane);
      }
    }
  });
  const lanes = [...far.values()].map((lane) => {
    const ys = [lane.start.y, ...lane.ends.map((end) => end.y)];
    return { ...lane, top: Math.min(...ys), bottom: Math.max(...ys) };
  });
  lanes.sort((a, b) => a.bottom - a.top - (b.bottom - b.top));
  const taken = []; // for each lane the spans that lie in it
  for (const lane of lanes) {
    let n = taken.findIndex((spans) => spans.every(([top, bottom]) => bottom < lane.top || top > lane.bottom));
    if (n < 0) n = taken.push([]) - 1;
    taken[n].push([lane.top, lane.bottom]);
    lane.n = n;
    lane.x = lane.side + 2 * FAR_FROM_COLUMN + LANE * n;
  }
  return lanes;
}

// Where an edge leaves an item, and whether nothing of the item lies below.
function exit(item, source) {
  if (!item.inner) return { x: 0, y: item.y + item.high, right: WIDE / 2, bottom: true };
  const node = item.inner.nodes[item.inner.layers.indexOf(source)];
  const y = item.y + HEAD + node.y + node.height / 2;
  const bottom = node.y + node.height / 2 >= item.inner.bottom - 1;
  return { x: node.x, y, right: node.x + node.width / 2, bottom };
}

// Where it comes into one.
function entry(item, source) {
  if (!item.inner) return { x: 0, y: item.y };
  const at = item.inner.entries[item.inner.sources.indexOf(source)];
  return at ? { x: at.x, y: item.y + HEAD + at.y, goesOn: true } : { x: 0, y: item.y };
}
