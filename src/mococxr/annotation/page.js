"use strict";
// The page of `annotate`. The server keeps everything; what is here is what is on the screen.

const ANSWERS = [["1", 1, "Yes"], ["0", 0, "No"], ["U", -1, "Uncertain"]];  // key, value, word
const KEYS = Object.fromEntries(ANSWERS.map(([key, value]) => [key.toLowerCase(), value]));
const WORDS = Object.fromEntries(ANSWERS.map(([, value, word]) => [value, word.toLowerCase()]));
const $ = (id) => document.getElementById(id);

let work = null;          // what the server said last: reader, targets, items to come, progress
let current = null;       // the item on the screen
let finding = 0;          // which finding a key answers
let trail = [];           // numbers of images seen, to go back
let sending = Promise.resolve(), waiting = 0;  // answers go one after the other
let leaving = false;      // the last finding is answered: keys wait for the next image
let pressed = 0;          // when the key was pressed that brings the next image

// --- talking to the server

async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  for (;;) {
    let response;
    try {
      response = await fetch(path, how);
    } catch {
      alarm("The server does not answer. What was not saved is sent again until it does; leave this page open.");
      await new Promise((done) => setTimeout(done, 1000));
      continue;
    }
    if (response.status === 401) {
      alarm("The server was started anew. Open the address that the terminal shows now; saved answers are in the store.");
      return new Promise(() => {});
    }
    alarm("");
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.problem), { status: response.status });
    return answer;
  }
}

function alarm(text) {
  $("alarm").textContent = text;
  $("alarm").hidden = !text;
}

// One request that changes something: in the order of the keys, and what comes back is the newest state.
function send(path, body) {
  waiting += 1;
  const result = sending.then(async () => {
    work = await ask(path, body());
    tell();
  });
  sending = result.catch(async (error) => {
    leaving = false;
    say(error.message);
    if (error.status) await look();  // what the page took for saved was not
  }).finally(() => { waiting -= 1; });
  return result;
}

// --- images, loaded before they are shown

const pictures = new Map();  // "number/other" -> promise of {bitmap, window, bits}

function picture(number, other) {
  const key = `${number}/${other}`;
  if (!pictures.has(key)) {
    const loading = load(`/image/${key}`);
    loading.catch(() => pictures.delete(key));
    pictures.set(key, loading);
    for (const old of [...pictures.keys()].slice(0, -10)) pictures.delete(old);
  }
  return pictures.get(key);
}

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error("The image cannot be loaded.");
  const [low, high] = response.headers.get("X-Window").split(" ").map(Number);
  return { bitmap: await createImageBitmap(await response.blob()), window: { low, high }, bits: response.headers.get("X-Bits") };
}

function preload() {
  for (const item of work.items) {
    picture(item.number, 0).catch(() => {});
    if (item.others.length) picture(item.number, 1).catch(() => {});
  }
}

// --- the large image: window, zoom, place

const view = { other: 0, zoom: 1, x: 0, y: 0, invert: false, window: null, source: null, bitmap: null };

function resetView() {
  Object.assign(view, { zoom: 1, x: 0, y: 0, window: null, bitmap: view.source && view.source.bitmap });
  draw();
}

function draw() {
  paint($("large"), view.bitmap, view.zoom, view.x, view.y);
  $("large").classList.toggle("inverted", view.invert);
  $("small").classList.toggle("inverted", view.invert);
  $("invert").setAttribute("aria-pressed", view.invert);
  if (!view.source) return;
  const { low, high } = view.window || view.source.window;
  const percent = (share) => `${Math.round(100 * share)}`;
  $("facts").textContent = `${view.source.bits} bits · window ${percent(low)} to ${percent(high)} % · zoom ${view.zoom.toFixed(1)}`;
}

function paint(canvas, bitmap, zoom = 1, x = 0, y = 0) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const brush = canvas.getContext("2d");
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, width, height);
  if (!bitmap) return;
  brush.imageSmoothingQuality = "high";
  const scale = zoom * Math.min(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  brush.drawImage(bitmap, (width - w) / 2 + x * ratio, (height - h) / 2 + y * ratio, w, h);
}

function zoomBy(factor, at) {
  const box = $("large").getBoundingClientRect();
  const [px, py] = at ? [at.x - box.left - box.width / 2, at.y - box.top - box.height / 2] : [0, 0];
  const zoom = Math.min(16, Math.max(1, view.zoom * factor)), change = zoom / view.zoom;
  Object.assign(view, { zoom, x: px - (px - view.x) * change, y: py - (py - view.y) * change });
  if (zoom === 1) Object.assign(view, { x: 0, y: 0 });
  draw();
}

function move(x, y) {
  if (view.zoom === 1) return;
  Object.assign(view, { x: view.x + x, y: view.y + y });
  draw();
}

// Wider or narrower, darker or brighter: shares of the window's width.
function windowBy(wider, brighter) {
  if (!view.source) return;
  const { low, high } = view.window || view.source.window, width = (high - low) * Math.exp(wider);
  const middle = (low + high) / 2 - brighter * (high - low);
  if (width < 0.002 || width > 4 || Math.abs(middle) > 3) return;
  view.window = { low: middle - width / 2, high: middle + width / 2 };
  draw();
  windowed();
}

let drawing = false, stale = false;

// The server works the window out, from all bits of the file; while it does, the newest one waits.
async function windowed(whole = false) {
  if (drawing) { stale = true; return; }
  drawing = true;
  const [source, asked] = [view.source, view.window];
  const box = $("large").getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const side = Math.round(Math.min(box.width, box.height) * ratio * Math.min(view.zoom, 2));
  const small = whole ? "" : `&side=${Math.min(side, 900)}`;
  try {
    const { bitmap } = await load(`/image/${current.number}/${view.other}?low=${asked.low}&high=${asked.high}${small}`);
    if (view.source === source && view.window) { view.bitmap = bitmap; draw(); }
  } catch (error) {
    say(error.message);
  }
  drawing = false;
  const again = stale;
  stale = false;
  if (view.window && (again || (!whole && view.source === source))) windowed(!again);
}

const pointers = new Map();

$("large").addEventListener("pointerdown", (event) => {
  $("large").setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moves: event.button !== 0 || event.shiftKey });
});
$("large").addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY, moves: before.moves };
  const [x, y] = [now.x - before.x, now.y - before.y];
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (a) => Math.max(Math.hypot(a.x - other.x, a.y - other.y), 1);
    zoomBy(apart(now) / apart(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    move(x / 2, y / 2);
  } else if (now.moves) move(x, y);
  else windowBy(x / 300, -y / 400);
  pointers.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) $("large").addEventListener(name, (event) => pointers.delete(event.pointerId));
$("large").addEventListener("contextmenu", (event) => event.preventDefault());
$("large").addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY / 400), { x: event.clientX, y: event.clientY });
}, { passive: false });
window.addEventListener("resize", () => { draw(); if (current) beside(); });

// --- what is on the screen

async function show(item) {
  const first = item.number === (current && current.number) ? finding : 0;
  current = item;
  const open = work.targets.findIndex((target) => !(target in item.answers));
  finding = open < 0 ? first : open;
  $("note").value = item.note;
  for (const name of ["top", "work", "end", "door"]) $(name).hidden = !["top", "work"].includes(name);
  $("number").textContent = `Image ${item.number}`;
  $("view").textContent = item.view || "";
  tell();
  findings();
  $("beside").hidden = !item.others.length;
  $("stage").classList.toggle("two", item.others.length > 0);
  await look_at(0);
  leaving = false;
  document.body.dataset.shown = item.number;
  document.body.dataset.ms = pressed ? Math.round(performance.now() - pressed) : "";
  pressed = 0;
  preload();
}

async function look_at(other) {
  const item = current;
  let source;
  try {
    source = await picture(item.number, other);
  } catch (error) {
    say(`${error.message} Reload the page to try again.`);
    source = null;
  }
  if (item !== current) return;
  Object.assign(view, { other, source });
  const words = other ? `Other image of the patient, ${item.others[other - 1]}` : `Image ${item.number}${item.view ? `, ${item.view}` : ""}`;
  $("large").setAttribute("aria-label", words);
  resetView();
  beside();
}

// The patient's other image, small; where that is the large one, the image that is labelled.
async function beside() {
  const item = current, next = nextOther();
  if (!item.others.length) return;
  $("other").textContent = next ? `Other: ${item.others[next - 1]}` : "Back to the image";
  const { bitmap } = await picture(item.number, next);
  if (item === current && next === nextOther()) paint($("small"), bitmap);
}

const nextOther = () => (view.other + 1) % (current.others.length + 1);

function tell() {
  if (!work || !work.targets) return;
  $("reader").textContent = work.reader;
  $("bar").max = Math.max(work.total, 1);
  $("bar").value = work.done;
  $("count").textContent = `${work.done} of ${work.total} done`;
  const minutes = Math.ceil(work.seconds_left / 60);
  $("left").textContent = work.seconds_left === null ? "" : minutes > 90 ? `about ${(minutes / 60).toFixed(1)} h left` : `about ${minutes} min left`;
}

function findings() {
  $("findings").replaceChildren(...work.targets.map((target, place) => {
    const box = document.createElement("div"), said = current.answers[target];
    box.className = place === finding ? "finding now" : "finding";
    const head = document.createElement("h2"), answer = document.createElement("span");
    head.id = `finding-${place}`;
    answer.className = "said";
    answer.textContent = said === undefined ? (place === finding ? "now" : "open") : WORDS[said];
    head.append(target, answer);
    const choices = document.createElement("div");
    choices.className = "choices";
    choices.setAttribute("role", "radiogroup");
    choices.setAttribute("aria-label", target);
    for (const [key, value, word] of ANSWERS) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.value = value;
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", said === value);
      button.tabIndex = place === finding ? 0 : -1;
      button.innerHTML = `${word} <kbd>${key}</kbd>`;
      button.addEventListener("click", () => { finding = place; answerWith(value); });
      choices.append(button);
    }
    box.append(head, choices);
    return box;
  }));
  $("onward").firstChild.textContent = complete() ? "Next " : "Skip ";
}

const complete = () => work.targets.every((target) => target in current.answers);
const say = (text) => { $("status").textContent = text; };

// --- what a reader does

function answerWith(value) {
  if (!current || leaving) return;
  pressed = performance.now();
  const item = current, target = work.targets[finding], was = item.answers[target] ?? null;
  if (value === null) delete item.answers[target];
  else item.answers[target] = value;
  leaving = value !== null && complete() && finding === work.targets.length - 1;
  const ends = leaving, note = $("note").value.trim();
  item.note = note;
  const sent = send("/answer", () => ({ number: item.number, answers: { [target]: value }, was: { [target]: was }, note }));
  if (!ends) {
    const open = work.targets.findIndex((name) => !(name in item.answers));
    finding = value === null ? finding : finding + 1 < work.targets.length ? finding + 1 : Math.max(open, 0);
    findings();
  }
  const words = `Image ${item.number}, ${target}: ${value === null ? "taken back" : WORDS[value]}`;
  sent.then(() => {
    say(`${words}. Saved.`);
    if (ends && item === current) onward();
  }, () => {});
}

function keepNote() {
  const item = current, note = $("note").value.trim();
  if (!item || note === item.note) return;
  item.note = note;
  if (!Object.keys(item.answers).length) return say("The note is kept with the first answer.");
  const answers = { ...item.answers };
  send("/answer", () => ({ number: item.number, answers, was: answers, note })).then(() => say("Note saved."), () => {});
}

function onward() {
  if (trail[trail.length - 1] !== current.number) trail.push(current.number);
  const next = work.items.find((item) => item.number !== current.number);
  return next ? show(next) : finish();
}

function skip() {
  if (!current || leaving) return;
  pressed = performance.now();
  const item = current;
  if (complete()) return onward();
  leaving = true;
  send("/skip", () => ({ number: item.number })).then(() => {
    say(`Image ${item.number} was put off: it comes again at the end.`);
    if (work.items[0] && work.items[0].number === item.number) { leaving = false; say("This is the last image that is left."); } else onward();
  }, () => {});
}

async function back() {
  if (leaving) return;
  await sending;
  while (trail.length && current && trail[trail.length - 1] === current.number) trail.pop();
  if (!trail.length) return say("There is no image before this one.");
  const item = await ask(`/item/${trail.pop()}`);
  say(`Back at image ${item.number}: a new answer takes the place of the old one.`);
  show(item);
}

function finish() {
  leaving = false;
  current = null;
  for (const name of ["top", "work", "end", "door"]) $(name).hidden = !["top", "end"].includes(name);
  $("number").textContent = "Done";
  $("view").textContent = "";
  document.body.dataset.shown = "end";
  $("ended").focus();
}

function toFinding(step) {
  finding = Math.min(Math.max(finding + step, 0), work.targets.length - 1);
  findings();
}

const COMMANDS = {
  "b": back, "ArrowLeft": back, "s": skip, "ArrowRight": skip, "x": () => answerWith(null),
  "ArrowUp": () => toFinding(-1), "ArrowDown": () => toFinding(1),
  "n": () => $("note").focus(), "i": () => { view.invert = !view.invert; draw(); }, "r": resetView,
  "o": () => { if (current.others.length) look_at(nextOther()); },
  "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
  "[": () => windowBy(0.1, 0), "]": () => windowBy(-0.1, 0), ",": () => windowBy(0, -0.05), ".": () => windowBy(0, 0.05),
};
const PANS = { "ArrowLeft": [60, 0], "ArrowRight": [-60, 0], "ArrowUp": [0, 60], "ArrowDown": [0, -60] };
const AGAIN = new Set(["+", "=", "-", "[", "]", ",", ".", "ArrowUp", "ArrowDown"]);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["TEXTAREA", "INPUT"].includes(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!current && !(key === "b" && !$("end").hidden)) return;
  if (event.shiftKey && key in PANS) move(...PANS[key]);
  else if (key in KEYS) { if (!event.repeat) answerWith(KEYS[key]); }
  else if (key in COMMANDS) { if (!event.repeat || AGAIN.has(key)) COMMANDS[key](); }
  else return;
  event.preventDefault();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-key]");
  if (button) COMMANDS[button.dataset.key]();
});
$("note").addEventListener("blur", keepNote);
window.addEventListener("beforeunload", (event) => {
  const unsaved = current && $("note").value.trim() !== current.note;
  if (waiting || unsaved) event.preventDefault();
});

// --- begin, and look again: another tab or another reader may have gone on

async function look() {
  const fresh = await ask("/work");
  if (fresh.reader === null) return ask_name(fresh);
  work = fresh;
  trail = trail.length ? trail : fresh.trail;
  if (!current) return work.items.length ? show(work.items[0]) : finish();
  const item = await ask(`/item/${current.number}`);
  if (JSON.stringify(item) !== JSON.stringify(current)) await show(item);
  tell();
}

$("keys").open = window.innerWidth > 760 && window.innerHeight > 900;

function ask_name(fresh) {
  $("door").hidden = false;
  $("name").value = fresh.proposed || "";
  $("names").replaceChildren(...fresh.readers.map((name) => Object.assign(document.createElement("option"), { value: name })));
  $("name").focus();
  $("name").select();
}

$("naming").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/reader", { reader: $("name").value });
    await look();
  } catch (error) {
    alarm(error.message);
  }
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && !waiting && current && document.activeElement !== $("note")) look();
});
look();
