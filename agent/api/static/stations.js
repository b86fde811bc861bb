"use strict";
// Stations with what they draw and buttons to switch them, and chargers that wait to be adopted.

const stationRows = new Map();
const pendingRows = new Map();
const EVERY_MS = 3000;

// Run what a button is for; what was refused is said beside it.
function button(parent, text, says, run) {
  const made = element("button", parent, text);
  made.type = "button";
  made.addEventListener("click", async () => {
    made.disabled = true;
    says.textContent = "…";
    says.className = "dim";
    try {
      says.textContent = (await run()) || "";
    } catch (refused) {
      says.textContent = refused.message;
      says.className = "bad";
    } finally {
      made.disabled = false;
      showStations();
    }
  });
  return made;
}

async function change(station, body) {
  const { results } = await api("PATCH", `/api/stations/${encodeURIComponent(station)}`, body);
  return results.filter((one) => one.outcome !== "done").map((one) => `${one.outcome}: ${one.reason}`).join("; ");
}

function stationRow(station) {
  let row = stationRows.get(station.id);
  if (!row) {
    const line = element("tr", document.querySelector("#stations tbody"));
    const name = element("td", line, station.name || station.id);
    row = { line, status: element("td", line), power: element("td", line, "", "value"), limit: element("td", line, "", "value") };
    if (station.name && station.name !== station.id) element("span", name, ` ${station.id}`, "dim");
    const last = element("td", line);
    const says = document.createElement("span");
    if (may("operator")) {
      button(last, "On", says, () => change(station.id, { status: "on" }));
      button(last, "Off", says, () => change(station.id, { status: "off" }));
    }
    says.setAttribute("role", "status");
    last.append(" ", says);
    stationRows.set(station.id, row);
  }
  return row;
}

function showStation(station) {
  const row = stationRow(station);
  const said = [station.status || "undecided", station.connector, station.following === false ? "does not follow" : ""];
  row.status.textContent = said.filter(Boolean).join(", ");
  row.status.className = station.following === false ? "bad" : station.status === "on" ? "good" : "dim";
  row.power.textContent = station.power_w === null ? "unknown" : `${(station.power_w / 1000).toFixed(2)} kW`;
  row.limit.textContent = station.limit_a === null ? "" : `${station.limit_a} A`;
}

// Once it is configured there is another button.
function pendingKey(charger) {
  return `${charger.charge_point_id} ${charger.device}`;
}

function showPending(charger) {
  let row = pendingRows.get(pendingKey(charger));
  if (!row) {
    const line = element("tr", document.querySelector("#pending tbody"));
    element("td", line, charger.charge_point_id);
    row = { line, about: element("td", line, "", "dim") };
    const last = element("td", line);
    if (may("admin")) offerAdoption(last, charger);
    pendingRows.set(pendingKey(charger), row);
  }
  const boot = [charger.boot.vendor, charger.boot.model].filter(Boolean).join(" ");
  const doubt = charger.contested ? "another one says to be it, too" : "";
  row.about.textContent = [boot, charger.version, charger.address, charger.reason, doubt].filter(Boolean).join(", ");
  row.about.className = charger.contested ? "bad" : "dim";
}

function offerAdoption(parent, charger) {
  const field = (text, value, type) => {
    const input = element("input", element("label", parent, text + " "));
    input.type = type;
    input.value = value;
    return input;
  };
  const identity = charger.charge_point_id;
  const says = document.createElement("span");
  says.setAttribute("role", "status");
  if (charger.device) {
    const path = `/api/chargers/${encodeURIComponent(identity)}/adopt`;
    button(parent, `Adopt as ${charger.device}`, says, async () => tell(identity, await api("POST", path)));
  } else {
    const id = field("as", identity.replace(/[^A-Za-z0-9_-]/g, "-").replace(/^[-_]+/, "").slice(0, 64), "text");
    const outlets = field("outlets", "1", "number");
    outlets.min = "1";
    button(parent, "Adopt", says, async () => {
      const entry = { id: id.value, driver: "ocpp", charge_point_id: identity, connectors: Number(outlets.value) };
      return tell(identity, (await api("POST", "/api/devices", entry)).adoption);
    });
  }
  parent.append(" ", says);
}

// What came of an adoption. A password is shown once: it stands above the table, each with its charger, until the page
// is left.
function tell(identity, adoption) {
  if (!adoption || !adoption.password) return adoption ? adoption.text : "adopted";
  const notes = document.getElementById("adopted");
  const note = element("p", notes, `${identity}: ${adoption.text}: `);
  element("code", note, adoption.password);
  note.append(" (in hex: ");
  element("code", note, adoption.password_hex);
  note.append(")");
  notes.hidden = false;
  return "";
}

function showAll(id, kept, items, keyOf, showOne) {
  const here = new Set(items.map(keyOf));
  for (const [key, row] of kept) {
    if (!here.has(key)) {
      row.line.remove();
      kept.delete(key);
    }
  }
  items.forEach(showOne);
  document.getElementById(id).hidden = items.length === 0;
}

async function showStations() {
  if (!user.name) return;
  try {
    const stations = await api("GET", "/api/stations?page_size=1000");
    showAll("stations", stationRows, stations.items, (one) => one.id, showStation);
  } catch {
    document.getElementById("stations").hidden = true;
  }
  try {
    const pending = await api("GET", "/api/chargers/pending?page_size=1000");
    showAll("pending", pendingRows, pending.items, pendingKey, showPending);
  } catch {
    // The event stream shows that the gateway is away.
  }
}

function forget() {
  for (const kept of [stationRows, pendingRows]) {
    for (const row of kept.values()) row.line.remove();
    kept.clear();
  }
}

document.addEventListener("inside", () => { forget(); showStations(); });
setInterval(showStations, EVERY_MS);
