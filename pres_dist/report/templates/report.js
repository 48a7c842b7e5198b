// Draws every plot in the colours of the page's theme, and again when the theme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);

// Colours come as the names of custom properties of the style sheet.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const coloured = (value) => {
  if (Array.isArray(value)) return value.map(coloured);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, inner]) =>
    [key, key === "color" ? colour(inner) : coloured(inner)]);
  return Object.fromEntries(entries);
};

const axis = (own) => ({
  gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true,
  ...own, title: { ...own?.title, standoff: 8 },
});

const drawOne = ({ name, traces, layout }) => {
  Plotly.react(`plot-${name}`, coloured(traces), {
    ...coloured(layout),
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { color: colour("text"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
    hovermode: "closest",
  }, { responsive: true, displaylogo: false, displayModeBar: false });
};
const draw = () => figures.forEach(drawOne);

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
