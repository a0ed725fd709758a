"use strict";
// Script of the listeners' page. It contains only opaque names of trials; the key assigns them to systems.

const element = (id) => document.getElementById(id);
const study = JSON.parse(element("study").textContent);
const storageName = "vidaudio-listening-" + study.page;
const HEARD_SHARE = 0.95; // share of a sound that must be played, in one or more parts, before a play counts
const PLAY_ICON = "M7 4l13 8-13 8z";
const PAUSE_ICON = "M6 4h4v16H6zM14 4h4v16h-4z";
const QUALITY = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const MATCH = ["Not at all", "A little", "Partly", "Mostly", "Entirely"];

// ---- state: what the answers file is made from, kept in this browser after every change

let state = null;
let canKeep = true;

function keep() {
  try {
    localStorage.setItem(storageName, JSON.stringify(state));
  } catch {
    canKeep = false;
  }
}

function kept() {
  try {
    const text = localStorage.getItem(storageName);
    const found = text === null ? null : JSON.parse(text);
    const known = found?.order?.length && found.order.every((name) => name in study.trials);
    return known ? found : null;
  } catch {
    canKeep = false;
    return null;
  }
}

function forget() {
  try {
    localStorage.removeItem(storageName);
  } catch {
    canKeep = false;
  }
}

// ---- media: decoded when needed, as blobs

function blobFrom(id, type) {
  const text = atob(element(id).textContent);
  return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type });
}

const audio = new Audio();
audio.preload = "auto";
const addresses = { sound: null, picture: null };

function load(kind, id, type) {
  if (addresses[kind]) URL.revokeObjectURL(addresses[kind]);
  addresses[kind] = id && element(id) ? URL.createObjectURL(blobFrom(id, type)) : null;
  return addresses[kind];
}

// ---- the trial on screen

let shownAt = 0;
let current = 0; // the question that a digit answers

const trialName = () => state.order[state.place];
const trial = () => study.trials[trialName()];
const answer = () => (state.answers[trialName()] ??= { values: {}, plays: 0, seconds: 0 });
const heard = () => answer().plays > 0;
const answered = () => study.questions.every((question) => question in answer().values);
const isDone = (name) => state.answers[name]?.plays > 0 && study.questions.every((q) => q in state.answers[name].values);

function choicesOf(question) {
  if (question === "which") {
    const [first, second] = trial().labels;
    return [["first", "Only " + first], ["second", "Only " + second], ["both", "Both of them"], ["none", "Neither"]];
  }
  return (question === "fidelity" ? QUALITY : MATCH).map((word, place) => [place + 1, word]);
}

function questionText(question) {
  if (question === "which") return "Which do you hear?";
  if (question === "fidelity") return "Fidelity: how natural and clean does it sound?";
  const { text } = trial();
  return `Relevance: how well does it fit ${text ? "these words" : "the picture"}?`;
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fieldset(question, place) {
  const isScale = question !== "which";
  const choices = choicesOf(question).map(([value, text], number) => {
    const radio = make("input", { type: "radio", name: question, value: String(value) });
    radio.checked = answer().values[question] === value;
    radio.addEventListener("change", () => choose(place, number, false));
    const key = isScale ? make("b", {}, String(value)) : make("kbd", { ariaHidden: "true" }, String(number + 1));
    return isScale ? make("label", {}, radio, key, text) : make("label", {}, radio, text, key);
  });
  const group = make("div", { className: isScale ? "choices scale" : "choices" }, ...choices);
  const made = make("fieldset", { id: "question-" + question }, make("legend", {}, questionText(question)), group);
  made.addEventListener("focusin", () => mark(place));
  return made;
}

function show(id) {
  for (const name of ["introduction", "trial", "end"]) element(name).hidden = name !== id;
  element("progress").hidden = id === "introduction";
}

function say(text) {
  element("status").textContent = canKeep ? text : text + " This browser keeps nothing: do not close the page before you save.";
}

function mark(place) {
  current = place;
  const several = study.questions.length > 1;
  study.questions.forEach((q, number) => element("question-" + q).classList.toggle("current", several && number === place));
}

function choose(place, number, goOn = true) {
  const question = study.questions[place];
  const choice = choicesOf(question)[number];
  if (!choice) return;
  answer().values[question] = choice[0];
  element("question-" + question).querySelectorAll("input")[number].checked = true;
  if (goOn) mark(Math.min(place + 1, study.questions.length - 1));
  keep();
  update();
}

function update() {
  const done = state.order.filter(isDone).length;
  element("progress-bar").value = done / state.order.length;
  element("progress-text").textContent = `${state.place + 1} of ${state.order.length}`;
  element("next").disabled = !(heard() && answered());
  element("next").textContent = state.place + 1 === state.order.length ? "Finish" : "Next";
  element("back").disabled = state.place === 0;
  element("hint").textContent = !heard() ? "Listen to the end first." : answered() ? "" : "Choose an answer.";
  updatePlayer();
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}.${Math.floor((seconds % 1) * 10)}`;
}

function updatePlayer() {
  const label = !audio.paused ? "Pause" : audio.currentTime > 0 && !audio.ended ? "Go on" : heard() ? "Play again" : "Play";
  element("play-label").textContent = label;
  element("play").setAttribute("aria-label", label);
  element("play-icon").setAttribute("d", audio.paused ? PLAY_ICON : PAUSE_ICON);
  const length = Number.isFinite(audio.duration) ? audio.duration : 0;
  element("time").textContent = length ? `${clock(audio.currentTime)} / ${clock(length)}` : "";
  element("play").style.setProperty("--done", `${length ? audio.currentTime / length : 0}turn`);
}

function showTrial() {
  show("trial");
  audio.pause();
  audio.src = load("sound", "sound-" + trialName(), "audio/flac");
  const { text, item } = trial();
  element("prompt").replaceChildren(...(text ? [make("q", {}, text)] : []));
  const picture = load("picture", "picture-" + item, "image/jpeg");
  element("picture").hidden = !picture;
  if (picture) element("picture").src = picture;
  element("questions").replaceChildren(...study.questions.map(fieldset));
  const open = study.questions.findIndex((question) => !(question in answer().values));
  mark(Math.max(open, 0));
  shownAt = performance.now();
  update();
  // Not the play button: Enter would press it, but Enter means next.
  element("trial").focus();
}

function leaveTrial() {
  if (element("trial").hidden) return;
  answer().seconds += (performance.now() - shownAt) / 1000;
  shownAt = performance.now();
  keep();
}

function step(by) {
  leaveTrial();
  say("");
  const place = state.place + by;
  if (place >= state.order.length) return showEnd();
  state.place = place;
  keep();
  showTrial();
}

function playOrPause() {
  if (audio.error) audio.load();
  if (audio.paused) audio.play().catch((problem) => say("This sound cannot be played here: " + problem.message));
  else audio.pause();
}

function playedSeconds() {
  let sum = 0;
  for (let part = 0; part < audio.played.length; part++) sum += audio.played.end(part) - audio.played.start(part);
  return sum;
}

for (const name of ["play", "pause", "timeupdate", "loadedmetadata"]) audio.addEventListener(name, () => state && updatePlayer());
audio.addEventListener("ended", () => {
  // Without an audio device some browsers play silently to the end and only set an error.
  if (audio.error || playedSeconds() < HEARD_SHARE * audio.duration) return;
  answer().plays += 1;
  keep();
  update();
});
audio.addEventListener("error", () => {
  say(`This sound cannot be played here: ${audio.error.message || "unknown format"}. Check your headphones, or try another browser.`);
});

// ---- beginning and end

function answersFile() {
  const answers = state.order.filter(isDone).map((name) => {
    const { values, plays, seconds } = state.answers[name];
    return { trial: name, values, plays, seconds: Math.round(seconds * 1000) / 1000 };
  });
  return {
    format: study.answersFormat,
    page: study.page,
    participant: state.participant,
    started: state.started,
    finished: state.finished ?? null,
    saved: new Date().toISOString(),
    order: state.order,
    answers,
  };
}

function showEnd() {
  audio.pause();
  show("end");
  const done = state.order.filter(isDone).length;
  const isWhole = done === state.order.length;
  if (isWhole) state.finished ??= new Date().toISOString();
  keep();
  element("progress-bar").value = done / state.order.length;
  element("progress-text").textContent = `${done} of ${state.order.length}`;
  element("end-title").textContent = isWhole ? "Thank you, that was all." : "Stopped on the way.";
  element("end-text").textContent = isWhole
    ? "Save your answers now, and send the file to whoever asked you."
    : `${done} of ${state.order.length} sounds are answered. Go on now or later, or save what there is.`;
  element("resume").hidden = isWhole;
  element("answers-text").value = JSON.stringify(answersFile(), null, 1);
  element("download").focus();
}

function download() {
  const text = JSON.stringify(answersFile(), null, 1);
  element("answers-text").value = text;
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const name = `answers-${study.page.slice(0, 8)}-${fileNameOf(state.participant)}.json`;
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`Saved as ${name}.`);
}

function welcome() {
  show("introduction");
  const letters = crypto.getRandomValues(new Uint8Array(4));
  element("participant").value = "listener-" + [...letters].map((v) => v.toString(16).padStart(2, "0")).join("");
  say("");
}

function begin(event) {
  event.preventDefault();
  const participant = element("participant").value.trim();
  if (!participant) {
    say("Please type a name, or any word.");
    element("participant").focus();
    return;
  }
  state = { participant, order: listeningOrder(study, participant), place: 0, answers: {}, started: new Date().toISOString() };
  keep();
  say("");
  showTrial();
}

function another() {
  if (!confirm("Have these answers been saved? They are removed from this browser.")) return;
  forget();
  state = null;
  welcome();
}

function onKey(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || element("trial").hidden) return;
  const isButton = target instanceof HTMLButtonElement;
  const key = event.key.toLowerCase();
  if (key === "p" || (key === " " && !isButton && !(target instanceof HTMLInputElement))) playOrPause();
  else if (/^[1-9]$/.test(key)) choose(current, Number(key) - 1);
  else if (key === "b" && !element("back").disabled) step(-1);
  else if (key === "enter" && !isButton) {
    if (!element("next").disabled) step(1);
  } else return;
  event.preventDefault();
}

element("start-form").addEventListener("submit", begin);
element("questions").addEventListener("submit", (event) => event.preventDefault());
element("play").addEventListener("click", (event) => {
  playOrPause();
  if (event.detail > 0) element("trial").focus(); // after a mouse click the keys must keep their meaning
});
element("next").addEventListener("click", () => step(1));
element("back").addEventListener("click", () => step(-1));
element("stop").addEventListener("click", () => { leaveTrial(); showEnd(); });
element("resume").addEventListener("click", showTrial);
element("download").addEventListener("click", download);
element("another").addEventListener("click", another);
document.addEventListener("keydown", onKey);
window.addEventListener("pagehide", () => state && leaveTrial());

state = kept();
if (!state) welcome();
else if (state.order.every(isDone)) showEnd();
else {
  showTrial();
  say(`Welcome back, ${state.participant}: your answers are still here.`);
}
