// An independent Sparkplug B host of the npm packages mqtt and sparkplug-payload: one JSON line for each message.
// node sparkplug_host.js PORT; each line on stdin that is a topic asks that node for a rebirth.
const mqtt = require("mqtt");
const sparkplug = require("sparkplug-payload").get("spBv1.0");

const client = mqtt.connect(`mqtt://127.0.0.1:${process.argv[2]}`);
const plain = (value) => (value && value.low !== undefined && value.high !== undefined ? value.toString() : value);

client.on("connect", () => client.subscribe("spBv1.0/#", { qos: 1 }, () => console.log(JSON.stringify({ ready: true }))));
client.on("message", (topic, bytes, packet) => {
  const payload = sparkplug.decodePayload(bytes);
  const metrics = (payload.metrics || []).map((metric) => ({
    name: metric.name || "",
    alias: metric.alias === undefined ? null : Number(metric.alias),
    type: metric.type,
    value: metric.value === undefined ? null : plain(metric.value),
    historical: Boolean(metric.isHistorical),
    unit: metric.properties && metric.properties.engUnit ? metric.properties.engUnit.value : "",
    time: Number(metric.timestamp),
  }));
  const seq = payload.seq === undefined || payload.seq === null ? null : Number(payload.seq);
  console.log(JSON.stringify({ topic, seq, qos: packet.qos, retain: packet.retain, metrics }));
});
process.stdin.on("data", (text) => {
  const metrics = [{ name: "Node Control/Rebirth", type: "Boolean", value: true }];
  client.publish(String(text).trim(), sparkplug.encodePayload({ timestamp: Date.now(), metrics }));
});
