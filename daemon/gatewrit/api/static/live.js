// Keeps the page true: asks for it again every few seconds and whenever the daemon tells of something, and says so at
// once when no answer comes any more. Whatever is shown is rendered by the daemon; here it is only put into place.

import * as chart from "./chart.js";
import { morph } from "./morph.js";
import * as times from "./times.js";

const EVERY = 5000; // ms between two readings
const PATIENCE = 8000; // ms for one answer
const LOST = 15; // s without an answer after which nothing is vouched for any more
const SOON = 150; // ms in which several events, or keystrokes, make one reading
const root = document.documentElement;
// An answer is of when it was asked for: there only the verdict and the clock go on.
const answered = document.querySelector("main .told") !== null;
let asking = null;
let timer = 0;
let marked = null;

async function fetched(address, signal) {
  const limit = AbortSignal.timeout(PATIENCE);
  const answer = await fetch(address, { cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit });
  const text = await answer.text();
  return { ok: answer.ok, page: new DOMParser().parseFromString(text, "text/html") };
}

async function renew() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const { page } = await fetched(answered ? "/lookup" : location.pathname + location.search, mine.signal);
    if (page.documentElement.dataset.now === undefined) throw new Error("this isn't the daemon's page");
    take(page);
  } catch {
    if (mine.signal.aborted) return;
  }
  show();
  timer = setTimeout(renew, EVERY);
}

function take(page) {
  const now = Number(page.documentElement.dataset.now);
  times.heard(now);
  if (marked !== null) restore();
  const tone = page.querySelector("link[rel=icon]").getAttribute("href");
  const icon = document.querySelector("link[rel=icon]");
  if (icon.getAttribute("href") !== tone) icon.setAttribute("href", tone);
  if (!answered) document.title = page.title;
  root.dataset.now = now;
  for (const id of answered ? ["verdict", "fresh"] : ["content", "fresh"]) morph(document.getElementById(id), page.getElementById(id));
  root.classList.toggle("renewed");
  chart.read(now);
}

// -- how old what is shown is ------------------------------------------------------------------------------------------

function show() {
  const age = times.age();
  const heard = age > LOST ? "lost" : age > EVERY / 1000 + 3 ? "late" : "fresh";
  if (heard === "lost" && marked === null) mark();
  root.dataset.heard = heard;
  document.querySelector("#fresh .heard").textContent = heard === "fresh" ? "Live, as of" : "No answer since";
  document.querySelector("[data-age]").textContent = age < 1 ? "" : `${times.span(age)} ago`;
  times.tick();
}

function mark() {
  const since = document.querySelector("#fresh time").textContent;
  const verdict = document.getElementById("verdict");
  const headline = document.getElementById("headline");
  marked = { className: verdict.className, title: document.title };
  verdict.className = verdict.className.replace(/good|busy|warn|bad/, "unknown");
  verdict.setAttribute("role", "alert");
  verdict.querySelector("img").src = icons.unknown.src;
  document.querySelector("link[rel=icon]").setAttribute("href", "/icon/unknown.svg");
  headline.textContent = `Unknown since ${since}: the daemon doesn't answer`;
  const detail = verdict.querySelector("div > p");
  if (detail) {
    detail.textContent =
      "What is shown below is how things were then. Orders go on starting and ending in the kernel; nothing new is " +
      "enforced and nothing put right until the daemon is back. See systemctl status gatewrit on the gateway.";
  }
  document.title = `? ${document.title}`;
}

function restore() {
  const verdict = document.getElementById("verdict");
  verdict.className = marked.className;
  verdict.removeAttribute("role");
  document.title = marked.title;
  marked = null;
}

// Asked for while the daemon answers, so that it is there when it doesn't.
const icons = { unknown: Object.assign(new Image(), { src: "/icon/unknown.svg" }) };

// -- being told --------------------------------------------------------------------------------------------------------

function soon() {
  clearTimeout(timer);
  timer = setTimeout(renew, SOON);
}

let begun = false;

function told() {
  if (begun || times.age() > 2) soon();
  begun = true;
}

function listen() {
  const source = new EventSource("/v1/events");
  // A break is mended by the browser itself, which asks for what came since the last id; each stream begins with the
  // verdict, and so with a look at the page, but for one that has only just been opened.
  for (const kind of ["policy", "enforcement", "problem", "drift"]) source.addEventListener(kind, told);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 4 * EVERY);
  });
}

// -- searching without leaving -----------------------------------------------------------------------------------------

function go(address) {
  history.replaceState(null, "", address);
  clearTimeout(timer);
  renew();
}

function asked(form) {
  const pairs = [...new FormData(form)].filter(([name, value]) => value && !(name === "sort" && value === "state"));
  const query = new URLSearchParams(pairs).toString();
  return form.getAttribute("action") + (query ? `?${query}` : "");
}

let typing = 0;
document.addEventListener("input", (event) => {
  const form = event.target.closest(".filter");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => go(asked(form)), event.target.id === "q" ? SOON : 0);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest(".states a, .pager a");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const { pathname, search } = new URL(link.href);
  go(pathname + search);
  if (link.closest(".pager")) document.getElementById("orders").scrollIntoView();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  event.preventDefault();
  if (form.matches(".lookup") && !answered) lookUp(asked(form));
  else if (form.matches(".filter")) go(asked(form));
  else location.assign(asked(form));
});

let lookUps = 0;

async function lookUp(address) {
  const mine = ++lookUps;
  const place = document.getElementById("answer");
  place.setAttribute("aria-busy", "true");
  try {
    const { page } = await fetched(address);
    if (mine !== lookUps) return; // what was asked for later is what is waited for
    const told = document.importNode(page.getElementById("told"), true);
    told.querySelector("h1").remove();
    place.replaceChildren(told);
  } catch {
    if (mine !== lookUps) return;
    place.textContent = "Nobody can tell: the daemon doesn't answer. Ask on the gateway: gatewrit explain ADDRESS";
  }
  place.removeAttribute("aria-busy");
}

// ----------------------------------------------------------------------------------------------------------------------

chart.read(Number(root.dataset.now));
show();
setInterval(show, 1000);
listen();
timer = setTimeout(renew, EVERY);
document.addEventListener("visibilitychange", () => document.hidden || renew());
