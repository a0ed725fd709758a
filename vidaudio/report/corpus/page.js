"use strict";

// Filter of the shown clips, by label and by text.
const form = document.getElementById("filter");
if (form) {
  const label = document.getElementById("filter-label");
  const text = document.getElementById("filter-text");
  const count = document.getElementById("filter-count");
  const clips = [...document.querySelectorAll("#clips .clip")].map((card) => ({
    card,
    labels: new Set(JSON.parse(card.dataset.labels)),
    text: card.textContent.toLowerCase(),
  }));
  const show = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const clip of clips) {
      const fits = (!label.value || clip.labels.has(label.value)) && words.every((word) => clip.text.includes(word));
      clip.card.hidden = !fits;
      shown += fits;
    }
    for (const group of document.querySelectorAll("#clips .group")) {
      group.hidden = !group.querySelector(".clip:not([hidden])");
    }
    count.textContent = `${shown} of ${clips.length} clips`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  // A reset has changed the fields only after its event.
  form.addEventListener("reset", () => setTimeout(show));
  show();
}

// One sound at a time.
document.addEventListener(
  "play",
  (event) => {
    for (const audio of document.querySelectorAll("audio")) {
      if (audio !== event.target) audio.pause();
    }
  },
  true,
);

// The map: the nearest point is named, and the legend brings out one label.
const points = document.getElementById("points");
if (points) {
  const told = document.getElementById("map-told");
  const circles = [...points.querySelectorAll("circle")];
  const places = circles.map((circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value]);
  let chosen = -1;
  const choose = (index) => {
    if (chosen >= 0) circles[chosen].classList.remove("chosen");
    chosen = index;
    circles[index].classList.add("chosen");
    const { id, label } = circles[index].dataset;
    told.textContent = label ? `${id}: ${label}` : id;
  };
  const nearest = (x, y, allowed = () => true) => {
    let best = -1;
    let least = Infinity;
    places.forEach(([px, py], index) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least && !circles[index].classList.contains("faded") && allowed(px, py, index)) {
        [best, least] = [index, distance];
      }
    });
    return best;
  };
  points.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(points.getScreenCTM().inverse());
    const index = nearest(place.x, place.y);
    if (index >= 0) choose(index);
  });
  const directions = {
    ArrowLeft: (dx, dy) => dx < 0 && Math.abs(dy) <= -dx,
    ArrowRight: (dx, dy) => dx > 0 && Math.abs(dy) <= dx,
    ArrowUp: (dx, dy) => dy < 0 && Math.abs(dx) <= -dy,
    ArrowDown: (dx, dy) => dy > 0 && Math.abs(dx) <= dy,
  };
  points.addEventListener("focus", () => {
    if (chosen < 0) choose(nearest(500, 310));
  });
  points.addEventListener("keydown", (event) => {
    const fits = directions[event.key];
    if (!fits) return;
    event.preventDefault();
    const [x, y] = chosen >= 0 ? places[chosen] : [500, 310];
    const index = nearest(x, y, (px, py, other) => other !== chosen && fits(px - x, py - y));
    if (index >= 0) choose(index);
  });
  const legend = [...document.querySelectorAll("#legend button")];
  for (const button of legend) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const other of legend) other.setAttribute("aria-pressed", String(pressed && other === button));
      for (const circle of circles) {
        circle.classList.toggle("faded", pressed && !circle.classList.contains(`c${button.dataset.colour}`));
      }
    });
  }
}
