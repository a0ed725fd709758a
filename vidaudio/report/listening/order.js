"use strict";
// Order of the sounds and name of the answers file, both derived from the listener's name. Every round plays each item
// once, each time from another system.

function hashOf(text) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function randomFrom(text) {
  let seed = hashOf(text); // into mulberry32
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// Keeps letters of any script. A hash distinguishes names whose other differences a file system might ignore.
function fileNameOf(participant) {
  const safe = participant.replace(/[^\p{L}\p{M}\p{N}_-]+/gu, "_");
  return /^[a-z0-9-]+$/.test(participant) ? safe : `${safe}-${hashOf(participant).toString(16).padStart(8, "0")}`;
}

function shuffled(values, random) {
  const result = [...values];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other], result[last]];
  }
  return result;
}

function listeningOrder(study, participant) {
  const random = randomFrom(study.page + "\n" + participant);
  const byItem = new Map();
  for (const name of Object.keys(study.trials).sort()) {
    const item = study.trials[name].item;
    byItem.set(item, [...(byItem.get(item) ?? []), name]);
  }
  for (const [item, names] of byItem) byItem.set(item, shuffled(names, random));
  const order = [];
  const rounds = Math.max(...[...byItem.values()].map((names) => names.length));
  let previous = null;
  for (let round = 0; round < rounds; round++) {
    const items = shuffled(byItem.keys(), random);
    // The last item of a round must not be the first of the next one.
    if (items.length > 1 && items[0] === previous) {
      const other = 1 + Math.floor(random() * (items.length - 1));
      [items[0], items[other]] = [items[other], items[0]];
    }
    order.push(...items.map((item) => byItem.get(item)[round]));
    previous = items.at(-1);
  }
  return order;
}
