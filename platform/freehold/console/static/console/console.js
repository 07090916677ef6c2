// The console's own script: copying, phases read aloud, polling that rests while nobody looks. Pages work without it.
"use strict";

const announce = (text) => {
  document.getElementById("announcer").textContent = text;
};

// Copy buttons are hidden until there is a script to serve them.
const copyText = async (source) => {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(source.textContent.trim());
    return;
  }
  const range = document.createRange(); // plain HTTP on a name other than localhost: no clipboard API
  range.selectNodeContents(source);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  document.execCommand("copy");
};

const revealCopyButtons = () => {
  for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await copyText(document.getElementById(button.dataset.copy));
  const label = button.firstChild;
  label.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (label.textContent = "Copy"), 1500);
});

// Phases: what changed since the last look is said once.
const phases = new Map();

const readPhases = (aloud) => {
  const seen = new Set();
  for (const element of document.querySelectorAll("[data-phase]")) {
    const { endpoint, phase } = element.dataset;
    if (aloud && phases.get(endpoint) !== phase) announce(`${endpoint} is ${phase}`);
    phases.set(endpoint, phase);
    seen.add(endpoint);
  }
  for (const endpoint of phases.keys()) if (!seen.has(endpoint)) phases.delete(endpoint);
};

// The log stays at its end unless the reader has scrolled up.
let logTop = null;

const log = () => document.getElementById("log-lines");

const rememberLog = () => {
  const element = log();
  const atEnd = !element || element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  logTop = atEnd ? null : element.scrollTop;
};

const restoreLog = () => {
  const element = log();
  if (element) element.scrollTop = logTop === null ? element.scrollHeight : logTop;
};

const connectionLost = (lost) => {
  document.getElementById("connection").hidden = !lost;
};

document.addEventListener("DOMContentLoaded", () => {
  revealCopyButtons();
  readPhases(false);
  restoreLog();
  const body = document.body;
  body.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  body.addEventListener("htmx:beforeSwap", rememberLog);
  body.addEventListener("htmx:afterSettle", () => {
    revealCopyButtons();
    restoreLog();
    readPhases(true);
  });
  body.addEventListener("htmx:sendError", () => connectionLost(true));
  body.addEventListener("htmx:responseError", () => connectionLost(true));
  body.addEventListener("htmx:beforeOnLoad", (event) => {
    if (event.detail.xhr.status < 400) connectionLost(false);
  });
});
