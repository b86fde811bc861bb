"use strict";
// Who looks at this page: set-up, log-in, log-out. The other scripts ask by `api`, and start at the event `inside`.
// The browser keeps the log-in as a cookie that no script can read; text only ever goes in by textContent.

const ROLES = ["viewer", "operator", "admin"];
const user = { name: "", role: "" };

function element(tag, parent, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function may(role) {
  return ROLES.indexOf(user.role) >= ROLES.indexOf(role);
}

// A request and its answer; an Error with the gateway's own words when it is refused.
async function api(method, path, body) {
  const headers = { "x-enlace-csrf": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 204) return null;
  const content = await answer.json();
  if (answer.ok) return content;
  const refused = new Error(content.detail || content.title);
  refused.status = answer.status;
  if (answer.status === 401 && user.name) enter();
  throw refused;
}

function show(id) {
  for (const each of ["setup", "login", "inside"]) document.getElementById(each).hidden = each !== id;
  const first = id === "inside" ? null : document.querySelector(`#${id} input`);
  if (first && document.activeElement === document.body) first.focus();
}

// Show what may be seen: the site, or how to get in.
async function enter() {
  user.name = user.role = "";
  try {
    const { needed } = await api("GET", "/api/auth/setup");
    if (needed) return show("setup");
    const me = await api("GET", "/api/auth/me");
    user.name = me.username;
    user.role = me.role;
  } catch (refused) {
    document.dispatchEvent(new Event("outside"));
    if (refused.status === 401) return show("login");
    const link = document.getElementById("link");
    link.textContent = refused.status ? refused.message : "no connection";
    link.className = "bad";
    return setTimeout(enter, 3000);
  }
  document.getElementById("who").textContent = `${user.name} (${user.role})`;
  show("inside");
  document.dispatchEvent(new Event("inside"));
}

function offer(id, path) {
  const form = document.getElementById(id);
  const says = form.querySelector("[role=alert]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    says.textContent = "";
    try {
      await api("POST", path, { ...Object.fromEntries(new FormData(form)), cookie: true });
      form.reset();
      await enter();
    } catch (refused) {
      says.textContent = refused.message;
      if (refused.status === 409) enter();
    } finally {
      button.disabled = false;
    }
  });
}

offer("setup", "/api/auth/setup");
offer("login", "/api/auth/login");
document.getElementById("logout").addEventListener("click", async () => {
  try {
    await api("POST", "/api/auth/logout");
  } finally {
    location.reload();
  }
});
document.addEventListener("DOMContentLoaded", enter);
