// The charts that Plotly draws: curves of the log, confusion matrix, map of the features.

const DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star"];

// Neighbours in the list differ most; from thirteen classes on, symbols differ too.
function classColour(label) {
  if (label < 0) return colour("quiet");
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const turn = (label % 12) * 150 + 210 + Math.floor(label / 12) * 15;
  const light = (dark ? 66 : 44) + (label % 2 ? 6 : -3);
  return `hsl(${turn % 360} ${label % 2 ? 65 : 75}% ${light}%)`;
}

function layoutOf(changes) {
  const axis = { gridcolor: colour("grid"), zerolinecolor: colour("line"), linecolor: colour("line") };
  const font = { color: colour("ink"), family: "system-ui, sans-serif", size: 12.5 };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font,
    margin: { l: 8, r: 8, t: 8, b: 8 },
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font },
    dragmode: false,
    ...changes,
    xaxis: { ...axis, automargin: true, ...changes.xaxis },
    yaxis: { ...axis, automargin: true, ...changes.yaxis },
  };
}

const plot = (id, traces, layout) =>
  Plotly.react(id, traces, layout, { displayModeBar: false, responsive: true });

// One run: a colour for each quantity. Several: a colour for each run, a dash for each quantity.
function curveTraces(title) {
  const many = content.runs.length > 1;
  return content.runs.flatMap((run, r) => {
    const lines = run.curves.find((chart) => chart.title === title)?.lines ?? [];
    return lines.map(({ name, steps, values }, k) => ({
      x: steps,
      y: values,
      name: many ? `${run.name}: ${name}` : name,
      mode: steps.length > 1 ? "lines" : "markers",
      line: { color: classColour(many ? r : k), dash: many ? DASHES[k % 4] : "solid", width: 2 },
      marker: { color: classColour(many ? r : k) },
    }));
  });
}

function drawCurves() {
  by("curves").replaceChildren();
  const units = new Map(content.runs.flatMap(({ curves }) => curves.map(({ title, unit }) => [title, unit])));
  for (const [title, unit] of units) {
    const traces = curveTraces(title);
    const chart = element("div", { className: "chart" });
    by("curves").append(element("div", {}, element("h3", { textContent: title }), chart));
    const legend = traces.length > 1 ? 14 + 19 * Math.ceil(traces.length / 3) : 0;
    chart.style.height = `${270 + legend}px`;
    plot(chart, traces, layoutOf({
      margin: { l: 48, r: 8, t: 12, b: 42 + legend },
      hovermode: "x unified",
      legend: { orientation: "h", y: -0.21, yanchor: "top" },
      showlegend: traces.length > 1,
      xaxis: { title: { text: "step", standoff: 4 }, automargin: false },
      yaxis: { ticksuffix: unit && ` ${unit}`, automargin: false },
    }));
  }
  if (!units.size) {
    by("curves").append(element("p", { className: "note", textContent: "The run folder has no log." }));
  }
}

function drawConfusion(run) {
  const found = run.confusions[by("judge").value];
  by("matrix").hidden = !found;
  if (!found) {
    by("mistakes").replaceChildren(nothing(run, "No classifier was run on this run."));
    return;
  }
  const { classes, counts } = found;
  const sums = counts.map((row) => row.reduce((a, b) => a + b, 0));
  const shares = counts.map((row, i) => row.map((n) => (sums[i] ? n / sums[i] : 0)));
  const few = classes.length <= 16 && by("matrix").clientWidth / classes.length > 26;
  const trace = {
    type: "heatmap",
    x: classes,
    y: classes,
    z: shares,
    text: counts.map((row) => row.map((n) => (n ? String(n) : ""))),
    texttemplate: few ? "%{text}" : "",
    customdata: counts.map((row, i) => row.map((n) => [n, sums[i]])),
    hovertemplate: "%{customdata[0]} of %{customdata[1]} clips of <b>%{y}</b><br>are taken for <b>%{x}</b><extra></extra>",
    colorscale: [[0, colour("page")], [1, colour("accent")]],
    zmin: 0,
    zmax: 1,
    xgap: 1,
    ygap: 1,
    showscale: false,
  };
  const size = classes.length > 30 ? 9 : 12;
  const most = by("matrix").clientWidth < 500 ? 14 : 24;
  const cut = (name) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
  const wide = 0.6 * size * Math.max(...classes.map((name) => cut(name).length)) + 10;
  const ticks = {
    tickvals: classes, ticktext: classes.map(cut), tickfont: { size }, showgrid: false, automargin: false,
  };
  by("matrix").style.height = `${Math.min(900, 0.75 * wide + 60 + 32 * classes.length)}px`;
  plot("matrix", [trace], layoutOf({
    margin: { l: wide + 26, r: 8, t: 8, b: 0.75 * wide + 40 },
    xaxis: { ...ticks, tickangle: -45, title: { text: "taken for", standoff: 6 } },
    yaxis: { ...ticks, autorange: "reversed", title: { text: "class of the clip", standoff: 6 } },
  }));
  const wrong = counts
    .flatMap((row, i) => row.map((n, j) => [n, sums[i], classes[i], classes[j], i === j]))
    .filter(([n, , , , same]) => n && !same)
    .sort((a, b) => b[0] - a[0])
    .slice(0, 5);
  by("mistakes").replaceChildren(
    tableOf({
      title: wrong.length ? "Most frequent mistakes" : "No test clip is mistaken",
      columns: ["clips", "of", "class", "taken for"],
      rows: wrong.map((row) => row.slice(0, 4)),
    }),
  );
}

// One trace for each class; rings mark what was generated, the chosen clip and its neighbours.
function drawMap(run, chosen) {
  const { names, labels, facts, places, neighbours } = run.map;
  const at = places[by("method").value];
  const points = (rows, more) => ({
    type: "scatter",
    mode: "markers",
    x: rows.map((i) => at[i][0]),
    y: rows.map((i) => at[i][1]),
    ...more,
  });
  const known = [...new Set(labels)].sort((a, b) => a - b);
  const classes = known.map((label) => {
    const rows = labels.flatMap((l, i) => (l === label ? [i] : []));
    return points(rows, {
      name: className(run, label),
      customdata: rows,
      text: rows.map((i) => [names[i], facts[i], judged(run, i)].filter(Boolean).join("<br>")),
      hovertemplate: `<b>${className(run, label).replaceAll("<", "&lt;")}</b><br>%{text}<extra></extra>`,
      marker: {
        color: classColour(label),
        size: 8,
        symbol: SYMBOLS[Math.floor(Math.max(label, 0) / 12) % SYMBOLS.length],
        line: { width: 0.8, color: colour("panel") },
      },
    });
  });
  const ring = (rows, size, width) =>
    points(rows, {
      hoverinfo: "skip",
      showlegend: false,
      marker: { size, color: "rgba(0,0,0,0)", line: { color: colour("ink"), width } },
    });
  const made = run.player.clips.flatMap((clip, i) => (clip.sampled === undefined ? [] : [i]));
  // Many classes, and all on a phone, are named where they lie; others by a legend.
  const median = (rows, axis) => rows.map((i) => at[i][axis]).sort((a, b) => a - b)[rows.length >> 1];
  const middle = (rows) => {
    const [x, y] = [0, 1].map((axis) => median(rows, axis));
    const far = (i) => Math.hypot(at[i][0] - x, at[i][1] - y);
    return at[rows.reduce((best, i) => (far(i) < far(best) ? i : best))];
  };
  const many = known.length > 12 || by("map").clientWidth < 500;
  const annotations = !many ? [] : classes.map(({ name, customdata, marker }) => ({
    x: middle(customdata)[0], y: middle(customdata)[1], text: name.replaceAll("<", "&lt;"), showarrow: false,
    yshift: 12, font: { size: 10.5, color: marker.color },
  }));
  const traces = [ring(made, 13, 1), ...classes, ring(neighbours[chosen], 15, 1.8), ring([chosen], 21, 3)];
  const bare = { visible: false, range: [-0.04, 1.04] };
  return plot("map", traces, layoutOf({
    annotations,
    showlegend: !many,
    legend: { orientation: "h", y: -0.01, yanchor: "top", font: { size: 12 } },
    hovermode: "closest",
    margin: { l: 0, r: 0, t: 0, b: 0 },
    xaxis: { ...bare, autorange: true },
    yaxis: { ...bare, autorange: true },
  }));
}

const className = (run, label) => (label < 0 ? "unlabelled" : run.classes[label]);

// What the linear probe says to a clip, if one was saved.
function judged(run, row) {
  const said = run.map.said[row];
  if (said === null) return "";
  return said === className(run, run.map.labels[row]) ? "the linear probe is right" : `the linear probe says ${said}`;
}
