"use strict";
// The page of `serve`: images go to /predict, and what comes back is shown. Names of files are sent to nobody.

const $ = (id) => document.getElementById(id);
const SHOWN = ["image/png", "image/jpeg", "image/webp", "image/bmp"];  // what a browser can draw

function tell(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer. Is it running?");
  }
  if (response.status === 401) throw new Error("This page is no longer let in. Open the address with the token again.");
  const content = await response.json();
  if (content.problem) throw new Error(`${content.problem} ${content.way_out}`);
  return content;
}

async function begin() {
  const facts = await answer("/model");
  const targets = facts.targets.map((part) => part.target).join(", ");
  $("model").textContent = `${targets}, by the model ${facts.model.name} (${facts.model.sha256.slice(0, 8)}).`;
}

async function score(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("image", file, "image");  // not its own name
  tell(files.length === 1 ? "One image is scored ..." : `${files.length} images are scored ...`);
  try {
    const prediction = await answer("/predict", { method: "POST", body: form });
    const cards = prediction.images.map((image) => card(image, files[image.image - 1]));
    for (const old of $("results").querySelectorAll("img")) URL.revokeObjectURL(old.src);
    $("results").replaceChildren(...cards);
    const read = prediction.images.filter((image) => !image.problem).length;
    tell(`${read} of ${cards.length} ${cards.length === 1 ? "image" : "images"} scored.`);
  } catch (error) {
    tell(error.message, true);
  }
  $("files").value = "";  // the same file may be chosen again
}

function card(image, file) {
  const part = $("card").content.cloneNode(true).firstElementChild;
  part.querySelector("h2").textContent = file.name + (image.view ? ` (${image.view})` : "");
  if (SHOWN.includes(file.type)) {
    const picture = part.querySelector("img");
    picture.src = URL.createObjectURL(file);
    picture.hidden = false;
    part.querySelector(".none").hidden = true;
  }
  for (const kind of ["warning", "problem"]) {
    part.querySelector(`.${kind}`).hidden = !image[kind];
    part.querySelector(`.${kind} span`).textContent = image[kind] || "";
  }
  part.querySelector(".findings").replaceChildren(...image.findings.map(finding));
  return part;
}

function finding(said) {
  const part = $("finding").content.cloneNode(true).firstElementChild;
  const words = { 1: "At or above the threshold", 0: "Below the threshold" };
  part.querySelector(".target").textContent = said.target;
  part.querySelector(".decision").textContent = words[said.decision] || "No threshold";
  part.querySelector(".decision").classList.toggle("positive", said.decision === 1);
  part.querySelector(".bar").style.width = `${100 * said.score}%`;
  part.querySelector(".mark").hidden = said.threshold === null;
  if (said.threshold !== null) part.querySelector(".mark").style.left = `${100 * said.threshold}%`;
  const probability = document.createElement("strong");
  probability.textContent = said.calibrated === null ? "not calibrated" : number(said.calibrated);
  const rest = `, score ${number(said.score)}${said.threshold === null ? "" : `, threshold of the score ${number(said.threshold)}`}`;
  part.querySelector(".numbers").append("Probability ", probability, rest);
  part.querySelector(".scale").setAttribute("aria-label", `Score ${number(said.score)} of 1`);
  return part;
}

function number(value) {
  return value < 0.001 ? "below 0.001" : value > 0.999 ? "above 0.999" : value.toFixed(3);
}

$("files").addEventListener("change", (event) => score([...event.target.files]));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") score([...event.dataTransfer.files]);
  });
}
begin().catch((error) => tell(error.message, true));
