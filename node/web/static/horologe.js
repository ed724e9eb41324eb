// What pages do by themselves: times as the reader wants them, countdowns, charts, confirmation, theme, and following the cluster.
// The first lines run before the page is drawn; the rest when it is there. Parts that htmx brings are treated like the first ones.
"use strict";

document.documentElement.classList.add("scripted");
const kept = {
  get: (name, otherwise) => { try { return localStorage.getItem(name) ?? otherwise; } catch { return otherwise; } },
  set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } },
};
const showTheme = (theme) => {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
};
showTheme(kept.get("theme", "auto"));

// Times

const pad = (number, width = 2) => String(number).padStart(width, "0");

function offsetText(date) {
  const minutes = -date.getTimezoneOffset();
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

function timeText(date, isLocal, withMilliseconds) {
  const milliseconds = withMilliseconds ? `.${pad(date.getMilliseconds(), 3)}` : "";
  if (!isLocal) return `${date.toISOString().slice(0, 19).replace("T", " ")}${milliseconds}Z`;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}${milliseconds} ${offsetText(date)}`;
}

function spanText(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const isLocal = () => kept.get("zone", "utc") === "local";

const each = (root, selector, action) => {
  if (root.matches?.(selector)) action(root);
  root.querySelectorAll(selector).forEach(action);
};

function showTimes(root) {
  each(root, "time[datetime]", (element) => {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) return;
    element.textContent = timeText(date, isLocal(), "milliseconds" in element.dataset);
    element.title = timeText(date, !isLocal(), true);
  });
}

// The clocks of a browser and of the cluster differ: what counts is the cluster's, as the page brought it.
let clockAheadMs = 0;

function tick(root = document) {
  const now = Date.now() - clockAheadMs;
  each(root, ".countdown[data-until]", (element) => {
    const seconds = (new Date(element.dataset.until).getTime() - now) / 1000;
    element.textContent = seconds >= 0 ? `in ${spanText(seconds)}` : `${spanText(-seconds)} ago`;
  });
  each(root, ".elapsed[data-since]", (element) => {
    element.textContent = spanText(Math.max(0, (now - new Date(element.dataset.since).getTime()) / 1000));
  });
}

// Charts: <figure class="chart"> with a data block {"x": [...], "time": true, "unit": "s", "series": [{"label", "values", "bars", "ink"}]}

const charts = new Map();

function ink(element, name) {
  const probe = element.appendChild(document.createElement("span"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function figureText(value, unit) {
  if (value === null || value === undefined) return "–";
  const rounded = Number.isInteger(value) ? value : Number(value.toPrecision(3));
  return unit ? `${rounded} ${unit}` : `${rounded}`;
}

// Ticks: so many seconds apart, as text; what else it says where a year, month, or day begins; and that this is appended.
const DAY = "\n{YYYY}-{MM}-{DD}";
const TICKS = [
  [31536000, "{YYYY}", null, null, null, null, null, null, 1],
  [2419200, "{YYYY}-{MM}", null, null, null, null, null, null, 1],
  [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", DAY, null, DAY, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", DAY, null, DAY, null, null, null, 1],
];

function draw(figure) {
  const block = figure.querySelector("script[type='application/json']");
  if (!block || !window.uPlot) return;
  forget(figure);
  const data = JSON.parse(block.textContent);
  const axis = { stroke: ink(figure, "ink-muted"), grid: { stroke: ink(figure, "line"), width: 1 }, ticks: { stroke: ink(figure, "line"), width: 1 } };
  const size = () => ({ width: Math.max(200, figure.clientWidth), height: figure.classList.contains("small") ? 80 : 180 });
  const plot = new uPlot({
    ...size(),
    tzDate: (seconds) => (isLocal() ? new Date(seconds * 1000) : uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC")),
    scales: { x: { time: data.time !== false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, data.time === false ? 1 : 0.001)] } },
    axes: [data.time === false ? axis : { ...axis, space: 80, values: TICKS }, { ...axis, size: 64, values: (_, values) => values.map((value) => figureText(value, data.unit)) }],
    legend: { live: !figure.classList.contains("small"), show: !figure.classList.contains("small") },
    series: [
      { label: data.x_label ?? (data.time === false ? "" : "time"), value: (_, value) => (value === null ? "–" : data.time === false ? value : timeText(new Date(value * 1000), isLocal(), false)) },
      ...data.series.map((series, index) => {
        const stroke = ink(figure, series.ink ?? `chart-${(index % 5) + 1}`);
        return {
          label: series.label, stroke, width: 2, spanGaps: false, points: { show: data.x.length < 40 },
          fill: series.bars ? stroke : undefined, paths: series.bars ? uPlot.paths.bars({ size: [0.9, 60] }) : undefined,
          value: (_, value) => figureText(value, data.unit),
        };
      }),
    ],
  }, [data.x, ...data.series.map((series) => series.values)], figure);
  const watcher = new ResizeObserver(() => plot.setSize(size()));
  watcher.observe(figure);
  charts.set(figure, { plot, watcher });
}

function forget(figure) {
  const chart = charts.get(figure);
  chart?.watcher.disconnect();
  chart?.plot.destroy();
  charts.delete(figure);
}

// A form with data-confirm is sent once the reader has said yes.

let confirmed = null;

document.addEventListener("submit", (event) => {
  const form = event.target;
  const dialog = document.getElementById("confirm");
  if (!form.dataset.confirm || !dialog || confirmed === form) { confirmed = null; return; }
  event.preventDefault();
  event.stopImmediatePropagation();
  dialog.querySelector(".question").textContent = form.dataset.confirm;
  dialog.querySelector("button[value='yes']").textContent = event.submitter?.textContent.trim() || "Yes";
  dialog.returnValue = "";
  asked = form;
  dialog.addEventListener("close", () => {
    asked = null;
    setTimeout(letGo);
    if (dialog.returnValue !== "yes") return;
    confirmed = form;
    form.requestSubmit(event.submitter);
  }, { once: true });
  dialog.showModal();
}, true);

// Following: "changed" comes at most once a second. Hidden pages do not listen; browsers allow few connections to one server.

function follow(address) {
  let source = null;
  let again = null;
  let seen = document.body.dataset.mark;
  const changed = () => document.querySelectorAll("[hx-trigger*='sse:changed']").forEach((element) => {
    // What somebody is writing in, or choosing from, stays as it is.
    if (!document.activeElement.matches("input, select, textarea") || !element.contains(document.activeElement)) htmx.trigger(element, "sse:changed");
  });
  const listen = () => {
    clearTimeout(again);
    if (source || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("open", () => notice(""));
    source.addEventListener("changed", (event) => {
      if (event.data === seen) return;
      seen = event.data;
      changed();
    });
    source.addEventListener("error", () => {
      notice("The node does not answer. This page goes on by itself when it does.");
      // After a refusal a browser does not try again. A part that is asked for leads to the sign-in page if that is why.
      if (source?.readyState === EventSource.CLOSED) { leave(); changed(); again = setTimeout(listen, 3000); }
    });
  };
  const leave = () => { source?.close(); source = null; clearTimeout(again); };
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : listen()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  listen();
}

function notice(text) {
  const place = document.getElementById("notice");
  if (place && place.textContent !== text) place.textContent = text;
}

// The page

function arrived(root) {
  showTimes(root);
  tick(root);
  each(root, "figure.chart", draw);
}

// A part that comes anew takes the focus along: to the element that is the same as far as a reader can tell.

let focused = null;

function remember(part) {
  const element = document.activeElement;
  focused = element !== document.body && part.contains(element) ? { tag: element.tagName, href: element.getAttribute("href"), text: element.textContent } : null;
  if (focused) focused.place = [...part.querySelectorAll(focused.tag)].indexOf(element);
}

function refocus(part) {
  if (!focused || document.activeElement !== document.body) return;
  const all = [...part.querySelectorAll(focused.tag)];
  const same = all.find((element) => focused.href !== null ? element.getAttribute("href") === focused.href : element.textContent === focused.text);
  (same ?? all[focused.place])?.focus({ preventScroll: true });
  focused = null;
}

// What is pressed has to be there still when it is let go, or nothing would be clicked; and a form that somebody is asked about, when
// the answer comes. A part that came meanwhile is asked for anew after that, or comes with the next change.

let pressed = null;
let asked = null;
let soon = null;
const missed = new Set();

function keepPressed(event) {
  const part = event.detail.target;
  const isHeld = [pressed, asked].some((element) => element && part.contains(element));
  if (!isHeld || !part.matches("[hx-trigger*='sse:changed']")) return;
  event.detail.shouldSwap = false;
  missed.add(part);
}

function letGo() {
  clearTimeout(soon);
  pressed = null;
  missed.forEach((part) => htmx.trigger(part, "sse:changed"));
  missed.clear();
}

function press() {
  const later = (milliseconds) => { clearTimeout(soon); soon = setTimeout(letGo, milliseconds); };
  addEventListener("pointerdown", (event) => { clearTimeout(soon); pressed = event.button === 0 ? event.target : null; }, true);
  // Once whoever hears the click has acted on it; without a click it was let go elsewhere, or dragged.
  addEventListener("click", () => later(0), true);
  addEventListener("pointerup", () => later(500), true);
  addEventListener("pointermove", (event) => { if (pressed && !event.buttons) letGo(); }, true);
  addEventListener("pointercancel", letGo, true);
  addEventListener("dragend", letGo, true);
}

function redraw() {
  showTimes(document);
  [...charts.keys()].forEach(draw);
}

function header() {
  const zone = document.getElementById("zone");
  const theme = document.getElementById("theme");
  const menu = document.getElementById("menu");
  const name = () => {
    zone.textContent = isLocal() ? `Local ${offsetText(new Date())}` : "UTC";
    theme.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[kept.get("theme", "auto")];
  };
  zone?.addEventListener("click", () => { kept.set("zone", isLocal() ? "utc" : "local"); name(); redraw(); });
  theme?.addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" }[kept.get("theme", "auto")];
    kept.set("theme", next);
    showTheme(next);
    name();
    redraw();
  });
  menu?.addEventListener("click", () => {
    const open = menu.getAttribute("aria-expanded") !== "true";
    menu.setAttribute("aria-expanded", String(open));
    document.querySelectorAll("body > header nav, .tools").forEach((element) => element.classList.toggle("open", open));
  });
  if (zone && theme) { zone.hidden = theme.hidden = false; name(); }
}

document.addEventListener("DOMContentLoaded", () => {
  const now = document.body.dataset.now;
  if (now) clockAheadMs = Date.now() - new Date(now).getTime();
  header();
  arrived(document);
  setInterval(tick, 1000);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  press();
  document.body.addEventListener("htmx:beforeSwap", (event) => { keepPressed(event); remember(event.detail.target); });
  document.body.addEventListener("htmx:load", (event) => { arrived(event.detail.elt); refocus(event.detail.elt); });
  document.body.addEventListener("htmx:beforeCleanupElement", (event) => forget(event.detail.elt));
  document.body.addEventListener("htmx:responseError", (event) => {
    const answer = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    notice(answer.querySelector("[role='alert']")?.textContent ?? `The node answered ${event.detail.xhr.status}.`);
  });
  document.body.addEventListener("htmx:sendError", () => notice("The node does not answer. This page goes on by itself when it does."));
  document.body.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) notice(""); });
  if (document.body.dataset.live) follow(document.body.dataset.live);
});
