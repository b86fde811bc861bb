"use strict";
// The API's description, drawn from /openapi.json without any library.

function element(tag, parent, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function typeOf(schema, seen = 0) {
  if (!schema || seen > 4) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((each) => typeOf(each, seen + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.type === "array") return typeOf(schema.items, seen + 1) + "[]";
  return schema.type || "any";
}

function limits(schema) {
  const found = [];
  if (schema.minimum !== undefined) found.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) found.push(`to ${schema.maximum}`);
  if (schema.default !== undefined) found.push(`default ${schema.default}`);
  return found.join(" ");
}

function showFields(parent, what, schema, schemas) {
  const name = typeOf(schema).replace("[]", "");
  const model = schemas[name] || schema;
  if (!model || !model.properties) return;
  element("p", parent, `${what} ` + (typeOf(schema) || "JSON") + (model.description ? ": " + model.description : ""), "dim");
  const table = element("table", parent);
  for (const [field, detail] of Object.entries(model.properties)) {
    const row = element("tr", table);
    element("code", element("td", row), field);
    element("td", row, typeOf(detail), "dim");
    element("td", row, detail.description || "");
  }
}

function exampleOf(content, schemas) {
  if (content.example !== undefined) return content.example;
  const model = schemas[typeOf(content.schema).split(" | ")[0].replace("[]", "")] || content.schema;
  if (model.examples) return model.examples[0];
  const fields = Object.entries(model.properties || {}).filter(([, detail]) => detail.examples);
  return fields.length ? Object.fromEntries(fields.map(([name, detail]) => [name, detail.examples[0]])) : undefined;
}

function showExample(parent, content, schemas) {
  const example = exampleOf(content, schemas);
  if (example !== undefined) element("code", element("p", parent, "for example "), JSON.stringify(example));
}

// What goes wrong is said once for all operations: here stand the statuses, and when each is answered.
function showProblems(parent, responses, problems) {
  const found = Object.entries(responses).filter(([status]) => status >= "400");
  const text = found.map(([status, answer]) => {
    const problem = answer.$ref ? problems[answer.$ref.split("/").pop()] : answer;
    return `${status} ${problem.description || ""}`;
  });
  if (text.length) element("p", parent, "problems: " + text.join(" · "), "dim");
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  document.getElementById("title").textContent = `${api.info.title} API ${api.info.version}`;
  document.getElementById("description").textContent = api.info.description || "";
  const list = document.getElementById("operations");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const section = element("section", list);
      const title = element("h2", section);
      element("code", title, `${method.toUpperCase()} ${path}`);
      element("p", section, `${operation.summary || ""}. ${operation.description || ""}`);
      element("p", section, `for: ${operation["x-role"]}`, "dim");
      const parameters = operation.parameters || [];
      if (parameters.length) {
        const table = element("table", section);
        for (const parameter of parameters) {
          const row = element("tr", table);
          element("code", element("td", row), parameter.name + (parameter.required ? " *" : ""));
          element("td", row, typeOf(parameter.schema), "dim");
          element("td", row, `${parameter.description || ""} ${limits(parameter.schema)}`.trim());
        }
      }
      const sent = ((operation.requestBody || {}).content || {})["application/json"];
      if (sent) {
        showFields(section, "is sent", sent.schema, api.components.schemas);
        showExample(section, sent, api.components.schemas);
      }
      const status = Object.keys(operation.responses || {}).find((each) => each.startsWith("2"));
      const answer = (operation.responses[status] || {}).content || {};
      if (answer["application/json"]) showFields(section, "answers with", answer["application/json"].schema, api.components.schemas);
      else element("p", section, "answers with " + (Object.keys(answer).join(", ") || status), "dim");
      showProblems(section, operation.responses, api.components.responses || {});
    }
  }
}

draw();
