"use strict";
// Alarms that are not normal, the worst first: what is wrong, why, since when; to acknowledge and to shelve them.

const alarmRows = new Map();
const SEVERITIES = ["critical", "warning", "info"];
const SHELVE_S = 3600;

function alarmRow(alarm) {
  let row = alarmRows.get(alarm.id);
  if (!row) {
    const line = element("tr", document.querySelector("#alarms tbody"));
    const severity = element("td", line);
    const about = element("td", line);
    row = { line, severity, text: element("div", about), why: element("div", about, "", "dim"), state: element("div", about, "", "dim") };
    const last = element("div", about);
    const says = document.createElement("span");
    const path = `/api/alarms/${encodeURIComponent(alarm.id)}`;
    if (may("operator")) {
      button(last, "Acknowledge", says, async () => void (await api("POST", `${path}/acknowledge`, {})));
      button(last, "Shelve 1 h", says, async () => void (await api("POST", `${path}/shelve`, { for_s: SHELVE_S })));
    }
    says.setAttribute("role", "status");
    last.append(" ", says);
    alarmRows.set(alarm.id, row);
  }
  return row;
}

function showAlarm(alarm) {
  const row = alarmRow(alarm);
  row.severity.textContent = alarm.severity + (alarm.shadow ? " (shadow)" : "");
  row.severity.className = alarm.severity === "critical" && alarm.active ? "bad" : "";
  row.text.textContent = alarm.text || alarm.id;
  row.why.textContent = alarm.why;
  row.state.textContent = alarm.state + (alarm.since ? ` since ${new Date(alarm.since).toLocaleString()}` : "");
  row.line.parentNode.append(row.line); // keeps the order in which they came
}

async function showAlarms() {
  if (!user.name) return;
  try {
    const page = await api("GET", "/api/alarms?kind=alarm&page_size=1000");
    const open = page.items.filter((one) => one.state !== "normal");
    open.sort((one, other) => SEVERITIES.indexOf(one.severity) - SEVERITIES.indexOf(other.severity));
    showAll("alarms", alarmRows, open, (one) => one.id, showAlarm);
  } catch {
    document.getElementById("alarms").hidden = true;
  }
}

document.addEventListener("inside", () => {
  for (const row of alarmRows.values()) row.line.remove();
  alarmRows.clear();
  showAlarms();
});
setInterval(showAlarms, EVERY_MS);
