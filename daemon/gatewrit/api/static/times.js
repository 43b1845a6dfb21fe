// Ages and countdowns by the daemon's clock, which was told with the page and goes on here from when that came.

const STEPS = [[86400, "day", "days"], [3600, "h", "h"], [60, "min", "min"], [1, "s", "s"]];

let told = Number(document.documentElement.dataset.now);
let ran = performance.now();
let wall = Date.now();

// Seconds since the daemon was last heard. A host that slept stops one of the two clocks, and a clock that is set moves
// the other: the longer time counts.
export function age() {
  return Math.max(0, performance.now() - ran, Date.now() - wall) / 1000;
}

export function heard(now) {
  told = now;
  ran = performance.now();
  wall = Date.now();
}

// A length of time in the daemon's own words (words.span).
export function span(seconds) {
  const length = Math.max(0, Math.floor(seconds));
  for (const [index, [size, one, many]] of STEPS.entries()) {
    const whole = Math.floor(length / size);
    if (!whole && size !== 1) continue;
    const text = `${whole} ${whole === 1 ? one : many}`;
    const finer = STEPS[index + 1];
    if (finer === undefined || whole > 3) return text;
    const part = Math.floor((length % size) / finer[0]);
    return part ? `${text} ${part} ${part === 1 ? finer[1] : finer[2]}` : text;
  }
  return "0 s";
}

export function tick() {
  const now = told + age();
  for (const each of document.querySelectorAll("[data-ago], [data-for], [data-left]")) {
    const { ago, for: since, left } = each.dataset;
    let text = span(left === undefined ? now - (since ?? ago) : left - now);
    if (ago !== undefined) text = now - ago < 1 ? "just now" : `${text} ago`;
    if (each.textContent !== text) each.textContent = text;
  }
}
