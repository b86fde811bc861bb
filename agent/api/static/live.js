"use strict";
// Live values: one table for each device, filled from /api/live. Text only ever goes in by textContent.

const rows = new Map();
const tables = new Map();
const link = document.getElementById("link");
let stream = null;

function deviceOf(name) {
  return name.slice(0, name.indexOf("."));
}

function tableOf(device) {
  let table = tables.get(device);
  if (!table) {
    const section = element("section", document.getElementById("devices"));
    const title = element("h2", section, device + " ");
    const state = element("span", title, "", "dim");
    table = { body: element("tbody", element("table", section)), state };
    tables.set(device, table);
  }
  return table;
}

function showValue(entry) {
  let row = rows.get(entry.id);
  if (!row) {
    const device = deviceOf(entry.name);
    const line = element("tr", tableOf(device).body);
    element("td", line, entry.name.slice(device.length + 1));
    row = { value: element("td", line, "", "value"), unit: element("td", line, entry.unit, "unit"), time: element("td", line, "", "dim") };
    rows.set(entry.id, row);
  }
  const shown = entry.value === null ? "unknown" : Number.isInteger(entry.value) ? String(entry.value) : String(+entry.value.toPrecision(7));
  row.value.textContent = entry.label === null ? shown : entry.label;
  row.value.classList.toggle("dim", entry.value === null);
  row.time.textContent = entry.time === null ? "" : new Date(entry.time).toLocaleTimeString();
}

async function showDevices() {
  if (!stream) return;
  try {
    const page = await api("GET", "/api/devices?page_size=1000");
    for (const device of page.items) {
      const state = tableOf(device.id).state;
      state.textContent = device.last_error && device.state !== "online" ? `${device.state}: ${device.last_error}` : device.state;
      state.className = device.state === "online" ? "good" : device.state === "starting" ? "dim" : "bad";
    }
    const health = await api("GET", "/api/system/health");
    if (health.site) document.getElementById("site").textContent = `${health.site} (${health.version})`;
  } catch {
    // The event stream shows that the gateway is away.
  }
}

function receive(event) {
  for (const entry of JSON.parse(event.data).values) showValue(entry);
}

function stop() {
  if (stream) stream.close();
  stream = null;
}

function start() {
  stop();
  stream = new EventSource("/api/live");
  stream.addEventListener("snapshot", receive);
  stream.addEventListener("change", receive);
  stream.addEventListener("open", () => { link.textContent = "live"; link.className = "good"; showDevices(); });
  stream.addEventListener("error", () => {
    link.textContent = "no connection";
    link.className = "bad";
    // A browser tries again by itself, but not after a refusal: the log-in may have ended.
    if (stream && stream.readyState === EventSource.CLOSED) {
      stop();
      setTimeout(enter, 3000);
    }
  });
}

document.addEventListener("inside", start);
document.addEventListener("outside", stop);
setInterval(showDevices, 5000);
