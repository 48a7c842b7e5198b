// Finds a node, and shows its events, neighbors and memory. Ids are the users' own: they
// reach the page as text alone, and plots with what plotly takes for markup replaced.
const { names, sides, nodes } = JSON.parse(document.getElementById("nodes").textContent);
const MOST_FOUND = 12;
const part = (id) => document.getElementById(id);
const figure = (name) => figures.find((one) => one.name === name);
const side = (place) => (sides === null ? "" : sides[place] === "s" ? "source" : "destination");
const asText = (id) => id.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
let chosen = -1;

const made = (tag, text = "", className = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
};

// A name that can be clicked where the page holds the node.
const named = (place) => {
  if (place >= nodes.length || place === chosen) return made("span", names[place]);
  const button = made("button", names[place], "pick");
  button.addEventListener("click", () => choose(place));
  return button;
};

const row = (...cells) => {
  const line = made("tr");
  for (const cell of cells) {
    const holder = made("td");
    holder.append(cell);
    line.append(holder);
  }
  return line;
};

const fact = ([name, value]) => {
  const holder = made("div");
  holder.append(made("dt", name), made("dd", value));
  return holder;
};

const line = (points, name, series) => ({
  type: "scatter", mode: "lines+markers", name, x: points.t, y: points[name], connectgaps: true,
  customdata: points.num, marker: { color: series, size: 5 }, line: { color: series, width: 1.5 },
  hovertemplate: `%{x}<br>${name} %{y:.4g}<br>updates %{customdata}<extra></extra>`,
});

const LINES = {
  drift: ["drift"], cosine: ["cosine"], prediction: ["prediction", "persistence"], ratio: ["ratio"],
};
const ratio = ({ prediction, persistence }) =>
  prediction.map((error, at) => (error === null || !persistence[at] ? null : error / persistence[at]));

const drawNode = () => {
  for (const [name, measures] of Object.entries(LINES)) {
    const one = figure(name);
    if (!one) continue;
    const points = { ...nodes[chosen].points, ratio: ratio(nodes[chosen].points) };
    one.traces = measures.map((measure, place) => line(points, measure, `series-${place + 1}`));
    drawOne(one);
  }
};

const marks = (places, series, name, marker) => ({
  type: "scatter", mode: "markers", name, customdata: places, hoverinfo: "text",
  x: places.map((place) => nodes[place].x), y: places.map((place) => nodes[place].y),
  hovertext: places.map((place) =>
    [asText(names[place]), side(place), `${nodes[place].degree.toLocaleString("en")} events`]
      .filter(Boolean).join("<br>")),
  marker: { color: series, ...marker },
});

const drawMap = () => {
  const all = nodes.map((_, place) => place);
  const kinds = sides === null ? [["node", () => true]]
    : [["source", (place) => sides[place] === "s"], ["destination", (place) => sides[place] === "d"]];
  const traces = kinds.map(([name, kept], place) =>
    marks(all.filter(kept), `series-${place + 1}`, name, { size: 6, opacity: 0.65 }));
  const here = marks([chosen], "text", "chosen", { size: 15, symbol: "circle-open", line: { width: 2 } });
  figure("map").traces = [...traces, here];
  drawOne(figure("map"));
};

const choose = (place) => {
  if (place === chosen) return;
  chosen = place;
  const node = nodes[place];
  part("node-name").textContent = names[place];
  part("node-facts").replaceChildren(...[
    ["side", side(place)],
    ["events", node.degree.toLocaleString("en")],
    ...node.facts,
  ].filter(([, value]) => value !== "").map(fact));
  part("node-events").replaceChildren(...node.events.map(([t, src, dst]) =>
    row(t, named(src), named(dst))));
  part("node-near").replaceChildren(...node.near.map(([other, cosine]) =>
    row(named(other), cosine.toFixed(4))));
  drawNode();
  drawMap();
  location.hash = encodeURIComponent(`${side(place)}:${names[place]}`);
};

// Nodes whose id has the text in it, those that begin with it first.
const search = (text) => {
  const wanted = text.trim().toLowerCase(), begins = [], within = [];
  if (!wanted) return [];
  for (let place = 0; place < nodes.length; place += 1) {
    const at = names[place].toLowerCase().indexOf(wanted);
    if (at === 0) begins.push(place);
    else if (at > 0) within.push(place);
  }
  begins.sort((one, other) => names[one].length - names[other].length);
  return [...begins, ...within];
};

const showFound = () => {
  const text = part("search").value, found = search(text);
  const buttons = found.slice(0, MOST_FOUND).map((place) => {
    const button = made("button", [names[place], side(place)].filter(Boolean).join(" · "));
    button.addEventListener("click", () => choose(place));
    return button;
  });
  const more = found.length - buttons.length;
  const note = !text.trim() ? "" : !found.length ? "No node of this page." : more > 0 ? `${more} more` : "";
  part("found").replaceChildren(...buttons, made("p", note));
};

const atHash = () => {
  const wanted = decodeURIComponent(location.hash.slice(1));
  const place = nodes.findIndex((_, one) => `${side(one)}:${names[one]}` === wanted);
  choose(place >= 0 ? place : Math.max(chosen, 0));
};

part("search").addEventListener("input", showFound);
part("search").addEventListener("keydown", (event) => {
  const [first] = search(part("search").value);
  if (event.key === "Enter" && first !== undefined) choose(first);
});
addEventListener("hashchange", atHash);
atHash();
part("plot-map").on("plotly_click", ({ points }) => choose(points[0].customdata));
