// Draws every plot in the colors of the page's theme, and again when the theme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);

// Colors come as the names of custom properties of the style sheet.
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const colored = (value) => {
  if (Array.isArray(value)) return value.map(colored);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, inner]) =>
    [key, key === "color" ? color(inner) : colored(inner)]);
  return Object.fromEntries(entries);
};

const axis = (own) => ({
  gridcolor: color("line"), linecolor: color("line"), zeroline: false, automargin: true,
  ...own, title: { ...own?.title, standoff: 8 },
});

const drawOne = ({ name, traces, layout }) => {
  Plotly.react(`plot-${name}`, colored(traces), {
    ...colored(layout),
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { color: color("text"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
    hovermode: "closest",
  }, { responsive: true, displaylogo: false, displayModeBar: false });
};
const draw = () => figures.forEach(drawOne);

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
