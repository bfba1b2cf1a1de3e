"use strict";
// The data of the page -> nets: parts, units and layers that know each other, and what is open.

const DATA = JSON.parse(document.getElementById("data").textContent);
const FIGURES = ["parameters", "statistics", "MACs", "activations", "weights"];
const PARAMETERS = 0, STATISTICS = 1, MACS = 2, ACTIVATIONS = 3, WEIGHTS = 4;
const FEW = 60; // layers of a net whose parts are open at first

class Net {
  constructor(facts, place) {
    Object.assign(this, facts);
    this.place = place;
    this.open = new Set();
    this.layers.forEach((layer, i) => {
      Object.assign(layer, { is: "layer", key: `l${i}`, i, net: this, findings: [], readers: [] });
    });
    for (const layer of this.layers)
      for (const [source] of layer.reads) this.layers[source].readers.push(layer.i);
    this.parts.forEach((part, p) => {
      Object.assign(part, { is: "part", key: `p${p}`, net: this, staged: part.kind === "stage" });
      part.units.forEach((unit, u) => {
        Object.assign(unit, { is: "unit", key: `u${p}.${u}`, net: this, part });
        unit.name = `unit ${u + 1}`;
        for (const i of unit.layers) this.layers[i].unit = unit;
        unit.firstShape = this.shape(unit.layers[unit.layers.length - 1]);
      });
      part.layers = part.units.flatMap((unit) => unit.layers).sort((a, b) => a - b);
    });
    for (const finding of this.findings)
      for (const i of finding.layers) this.layers[i].findings.push(finding);
    this.things = new Map();
    for (const thing of [...this.parts, ...this.parts.flatMap((p) => p.units), ...this.layers])
      this.things.set(thing.key, thing);
    if (this.layers.length <= FEW) for (const part of this.parts) this.open.add(part);
  }

  // The shape of one image of a layer's top: "256x56x56"; of labels "1".
  shape(i, top = 0) {
    const shape = this.layers[i].tops[top]?.[1] || "";
    return shape.includes("x") ? shape.slice(shape.indexOf("x") + 1) : shape.replace(/^\d+$/, "1");
  }

  // What stands within a thing when it is open.
  inside(thing) {
    if (thing.is === "layer") return [];
    if (thing.is === "part" && thing.staged) return thing.units;
    return thing.layers.map((i) => this.layers[i]);
  }

  above(thing) {
    if (thing.is === "layer") return thing.unit.part.staged ? thing.unit : thing.unit.part;
    return thing.is === "unit" ? thing.part : null;
  }

  // The layers of a thing, by their places.
  members(thing) {
    return thing.is === "layer" ? [thing.i] : thing.layers;
  }

  // Things in the order of the list, those that are seen.
  *seen(things = this.parts, level = 1) {
    for (const thing of things) {
      yield [thing, level];
      if (this.open.has(thing)) yield* this.seen(this.inside(thing), level + 1);
    }
  }

  // Open all that a thing lies in.
  show(thing) {
    for (let outer = this.above(thing); outer; outer = this.above(outer)) this.open.add(outer);
  }

  openAll(all) {
    this.open.clear();
    if (all) for (const thing of this.things.values()) if (thing.is !== "layer") this.open.add(thing);
  }

  total(thing, figure) {
    let sum = 0;
    for (const i of this.members(thing)) sum += this.layers[i].figures?.[figure] ?? 0;
    return sum;
  }

  // The worst that was found within a thing: "error", "warning", "note" or "".
  worst(thing) {
    const levels = new Set(this.members(thing).flatMap((i) => this.layers[i].findings.map((f) => f.level)));
    return ["error", "warning", "note"].find((level) => levels.has(level)) ?? "";
  }

  // What an activation within a thing is: "exploding", "dead" or "".
  state(thing) {
    const states = new Set(this.members(thing).flatMap((i) => (this.layers[i].values ?? []).map((v) => v.state)));
    return ["exploding", "dead"].find((state) => states.has(state)) ?? "";
  }

  // How many layers within a thing differ from the other net's.
  differing(thing) {
    return this.members(thing).filter((i) => ["only", "fields"].includes(this.layers[i].differs)).length;
  }
}

const NETS = DATA.nets.map((facts, place) => new Net(facts, place));

// ---- words

const EM = "\u2026", TIMES = "\u00d7", MINUS = "\u2212";

function short(text, most) {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return text.slice(0, most - 1 - end) + EM + text.slice(text.length - end);
}

function counted(n, what) {
  return `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
}

// As words.py and memory.py say figures: 25.6 M, 3.06 MiB
function inThreeDigits(n) {
  return n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2);
}

function thousands(n) {
  if (!n) return "0";
  const places = ["", " k", " M", " G", " T"];
  let p = 0;
  while (n >= 999.5 && p < places.length - 1) { n /= 1000; p++; }
  return `${p ? inThreeDigits(n) : n}${places[p]}`;
}

function bytes(n) {
  const places = ["bytes", "KiB", "MiB", "GiB"];
  let p = 0;
  while (n >= (p ? 1023.5 : 1024) && p < places.length - 1) { n /= 1024; p++; }
  return `${p ? inThreeDigits(n) : n} ${places[p]}`;
}

function number(value) {
  if (value === null || value === undefined) return MINUS;
  return String(Number(value.toPrecision(4)));
}

function largest(values, least) {
  let most = least;
  for (const value of values) if (value > most) most = value;
  return most;
}

// ---- elements; text goes in as text, never as markup

function element(make, name, attributes, children) {
  const made = make(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function html(name, attributes = {}, ...children) {
  return element((n) => document.createElement(n), name, attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return element((n) => document.createElementNS("http://www.w3.org/2000/svg", n), name, attributes, children);
}

function button(text, attributes, act) {
  const made = html("button", { type: "button", text, ...attributes });
  made.addEventListener("click", act);
  return made;
}
