// Joins the parts: which run, clip, moment and view are shown, and what changes them.

const state = { run: 0, clip: 0, time: 0, noise: 0, speed: 1, playing: false };
const camera = new Camera();
const read = []; // the clips of each run, once they are inflated
const FRAMES_A_SECOND = 20; // of the run's resized clips
let last = 0;

const run = () => content.runs[state.run];
const clips = () => read[state.run];

// The pictures beside the real clip, and the column of each; none where nothing is generated.
function panes() {
  const { ts } = run().player;
  const made = clips().clips[state.clip];
  if (!ts.length) return [["real clip", "", made.real]];
  return [
    ["real clip", "", made.real],
    ["noised", "x_t", made.noised?.[state.noise]],
    ["one step", "x̂0 from x_t", made.oneStep?.[state.noise]],
    ["generated", `DDIM, ${run().ddimSteps} steps`, made.sampled],
  ];
}

function drawPanes() {
  const size = clips().size(state.clip);
  panes().forEach(([, , column], i) => {
    const figure = by("panes").children[i];
    const canvas = figure.querySelector("canvas");
    if (column === undefined) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    else drawClip(canvas, clips(), camera, state.clip, column, state.time, size);
  });
  for (const button of by("neighbours").children) {
    const row = Number(button.dataset.row);
    const canvas = button.querySelector("canvas");
    drawClip(canvas, clips(), camera, row, clips().clips[row].real, state.time, sizeOf(row));
  }
  by("time").value = state.time / Math.max(1, clips().frames - 1);
  const frame = Math.round(state.time) * run().player.stride + 1;
  by("frame").textContent = `frame ${frame}`;
}

const sizes = new Map();
function sizeOf(row) {
  const key = `${state.run} ${row}`;
  if (!sizes.has(key)) sizes.set(key, clips().size(row));
  return sizes.get(key);
}

function labelPanes() {
  panes().forEach(([title, detail, column], i) => {
    const caption = by("panes").children[i].querySelector("figcaption");
    const text = column === undefined ? "only for clips with a ring" : detail;
    caption.replaceChildren(element("b", { textContent: title }), ` ${text}`);
  });
  by("t").textContent = run().player.ts.length ? `${run().player.ts[state.noise]} of ${run().noiseSteps}` : "";
}

function makePanes() {
  by("panes").classList.toggle("one", panes().length === 1);
  by("panes").replaceChildren(
    ...panes().map(([title]) => {
      const canvas = element("canvas", { tabIndex: 0 });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}: arrow keys turn the view`);
      turnable(canvas);
      return element("figure", {}, element("figcaption"), canvas);
    }),
  );
  by("noise-label").hidden = panes().length === 1;
  by("hint").hidden = by("reset").hidden = run().player.flat;
}

function turnable(canvas) {
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    camera.turn((from[0] - event.clientX) / 90, (event.clientY - from[1]) / 120);
    from = [event.clientX, event.clientY];
    drawPanes();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (from = null));
  canvas.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (!turn && event.key !== " ") return;
    event.preventDefault();
    if (turn) camera.turn(...turn);
    else play(!state.playing);
    drawPanes();
  });
}

function play(on) {
  if (on && !state.playing) {
    last = performance.now();
    requestAnimationFrame(step);
  }
  state.playing = on;
  by("play").textContent = on ? "Pause" : "Play";
}

function step(now) {
  if (!state.playing) return;
  const frames = ((now - last) / 1000) * (FRAMES_A_SECOND / run().player.stride) * state.speed;
  last = now;
  state.time = (state.time + Math.max(0, frames)) % Math.max(1, clips().frames - 1);
  drawPanes();
  requestAnimationFrame(step);
}

// Shows a clip everywhere: in the player, on the map and as the one whose neighbours are listed.
function choose(row, playing = state.playing) {
  state.clip = row;
  state.time = 0;
  const { labels, names, facts, neighbours, cosines } = run().map;
  by("clip").value = row;
  by("clip-class").textContent = className(run(), labels[row]);
  by("clip-facts").textContent = [names[row], facts[row], judged(run(), row)].filter(Boolean).join(", ");
  by("neighbours").replaceChildren(
    ...neighbours[row].map((other, k) => {
      const label = element("span", {}, element("b", { textContent: className(run(), labels[other]) }));
      label.append(element("br"), names[other], element("br"), `cosine ${cosines[row][k].toFixed(2)}`);
      const button = element("button", { onclick: () => choose(other, true) }, element("canvas"), label);
      button.dataset.row = other;
      button.classList.toggle("same", labels[other] === labels[row]);
      return button;
    }),
  );
  labelPanes();
  drawMap(run(), row);
  play(playing);
  drawPanes();
}

// Clips with generated ones first, then class by class; returns the first.
function listClips() {
  const { labels, names } = run().map;
  const made = run().player.clips.map((clip) => clip.sampled !== undefined);
  const order = names.map((_, i) => i).sort((a, b) => made[b] - made[a] || labels[a] - labels[b] || a - b);
  fill(by("clip"), order.map((i) => [i, `${made[i] ? "◎ " : ""}${className(run(), labels[i])}: ${names[i]}`]));
  return order[0];
}

function noteOfMap() {
  const { names, total } = run().map;
  const made = run().player.clips.filter((clip) => clip.sampled !== undefined).length;
  const all = names.length === total ? `All ${total} test clips` : `${names.length} of ${total} test clips, drawn at random`;
  const ring = made ? ` Rings mark the ${made} clips that the generator was given: the player shows what it makes of them.` : "";
  const why = run().noGenerator && ` Only real clips are shown: ${run().noGenerator}.`;
  return `${all}. Each point is the feature of a clip: click it to play the clip.${ring}${why}`;
}

async function showRun(index) {
  if (!read[index]) {
    const text = by("clips").textContent.split("\n")[index];
    read[index] = new Clips(content.runs[index].player, await inflated(text));
  }
  state.run = index;
  showText(run());
  by("map-note").textContent = noteOfMap();
  const methods = Object.keys(run().map.places);
  fill(by("method"), methods.map((name) => [name, name]));
  by("method-label").hidden = methods.length < 2;
  fill(by("judge"), run().confusions.map(({ title }, i) => [i, title]));
  by("judge-label").hidden = run().confusions.length < 2;
  const { ts } = run().player;
  state.noise = run().player.first;
  [by("noise").max, by("noise").value] = [Math.max(0, ts.length - 1), state.noise];
  state.clip = listClips();
  makePanes();
  choose(state.clip, !matchMedia("(prefers-reduced-motion: reduce)").matches);
  drawConfusion(run());
}

function clicked(row) {
  if (row === undefined) return;
  choose(row, true);
  // On a phone the player is below the map.
  by("player").scrollIntoView({ block: "nearest" });
}

function redraw() {
  tones.clear();
  drawCurves();
  drawConfusion(run());
  drawMap(run(), state.clip);
  drawPanes();
}

function listen() {
  const move = (places) => {
    const options = [...by("clip").options];
    choose(Number(options.at((by("clip").selectedIndex + places) % options.length).value));
  };
  by("run").onchange = () => showRun(Number(by("run").value));
  by("clip").onchange = () => choose(Number(by("clip").value));
  by("previous").onclick = () => move(-1);
  by("next").onclick = () => move(1);
  by("play").onclick = () => play(!state.playing);
  by("time").oninput = () => {
    play(false);
    state.time = by("time").valueAsNumber * Math.max(1, clips().frames - 1);
    drawPanes();
  };
  by("noise").oninput = () => {
    state.noise = by("noise").valueAsNumber;
    labelPanes();
    drawPanes();
  };
  by("speed").onchange = () => (state.speed = Number(by("speed").value));
  by("reset").onclick = () => {
    camera.reset();
    drawPanes();
  };
  by("method").onchange = () => drawMap(run(), state.clip);
  by("judge").onchange = () => drawConfusion(run());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", drawPanes);
}

async function start() {
  const library = new TextDecoder().decode(await inflated(by("plotly").textContent));
  document.head.append(element("script", { textContent: library }));
  by("version").textContent = content.version;
  by("which").hidden = content.runs.length < 2;
  fill(by("run"), content.runs.map(({ name }, i) => [i, name]));
  fill(by("speed"), [[0.25, "¼×"], [0.5, "½×"], [1, "1×"], [2, "2×"]], 1);
  showDifferences();
  listen();
  await showRun(0);
  by("map").on("plotly_click", ({ points }) => clicked(points[0].customdata));
  drawCurves();
}

start().catch((error) => {
  by("fault").hidden = false;
  by("fault").textContent = `This page needs a newer browser (Chrome 80, Firefox 113, Safari 16.4): ${error.message}`;
  throw error;
});
