// The API page: reads /openapi.json, lists its operations, and sends requests that people put together. Below them stands
// the guide to the error codes, whose sections are what the `type` of a problem document points to.
//
// Everything is made with createElement and textContent, so nothing of a response is ever read as markup.
// The key is taken from its field at the moment of sending; it is stored nowhere else.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let description = null;

/** Follows a reference within the document, as often as need be. */
function resolve(value) {
  let steps = 0;
  while (value && value.$ref && steps++ < 10) {
    const names = value.$ref.slice(2).split("/");
    value = names.reduce((at, name) => at?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], description);
  }
  return value ?? {};
}

function typeName(schema, depth = 0) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (alternatives) return alternatives.map((one) => typeName(one, depth + 1)).join(" | ");
  if (schema.type === "array" || schema.type?.includes?.("array")) return `array of ${typeName(schema.items, depth + 1)}`;
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type ?? "any";
  return schema.format ? `${type} (${schema.format})` : type;
}

/** An example of a schema: its own, or one made of its members' examples. */
function example(schema, depth = 0) {
  const resolved = resolve(schema);
  if (resolved.example !== undefined) return resolved.example;
  if (resolved.enum) return resolved.enum[0];
  if (depth > 5) return null;
  if (resolved.oneOf ?? resolved.anyOf) {
    const alternatives = (resolved.oneOf ?? resolved.anyOf).filter((one) => one.type !== "null");
    return example(alternatives[0], depth + 1);
  }
  const type = Array.isArray(resolved.type) ? resolved.type.find((one) => one !== "null") : resolved.type;
  if (type === "array") return [example(resolved.items, depth + 1)];
  if (type === "object" || resolved.properties) {
    const members = Object.entries(resolved.properties ?? {}).map(([name, member]) => [name, example(member, depth + 1)]);
    return Object.fromEntries(members);
  }
  return { string: "", integer: 0, number: 0, boolean: false }[type] ?? null;
}

function memberTable(schema) {
  const resolved = resolve(schema);
  const rows = Object.entries(resolved.properties ?? {}).map(([name, member]) => {
    const needed = (resolved.required ?? []).includes(name);
    const label = make("td", {}, make("code", {}, name), needed ? make("span", { class: "required" }, " *") : null);
    const text = member.description ?? resolve(member).description ?? "";
    return make("tr", {}, label, make("td", {}, typeName(member)), make("td", {}, ...inline(text)));
  });
  if (rows.length === 0) return null;
  const head = make("tr", {}, ...["Member", "Type", "Meaning"].map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function parameterField(parameter, prefix) {
  const schema = resolve(parameter.schema);
  const id = `${prefix}-${parameter.in}-${parameter.name}`;
  const choices = schema.enum ?? (schema.oneOf ?? schema.anyOf ?? []).map(resolve).find((one) => one.enum)?.enum;
  let input;
  if (choices) {
    input = make("select", { id }, make("option", { value: "" }, ""), ...choices.map((text) => make("option", { value: text }, text)));
  } else {
    input = make("input", { id, type: "text", autocomplete: "off", spellcheck: "false" });
  }
  const required = parameter.required ? make("span", { class: "required" }, " *") : null;
  const label = make("label", { for: id }, make("code", {}, parameter.name), required);
  const row = make("tr", {}, make("td", {}, label), make("td", {}, parameter.in), make("td", {}, input), make("td", {}, ...inline(parameter.description ?? "")));
  return { parameter, input, row };
}

function parameterTable(fields) {
  if (fields.length === 0) return null;
  const head = make("tr", {}, ...["Parameter", "In", "Value", "Meaning"].map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...fields.map((field) => field.row)));
}

/** The fields for a request's body: its media type and its text. */
function bodyFields(operation, prefix) {
  const content = operation.requestBody?.content;
  if (!content) return null;
  // The API's own form is offered first.
  const types = Object.keys(content).sort((a, b) => (b === "application/json") - (a === "application/json"));
  const select = make("select", { id: `${prefix}-type` }, ...types.map((type) => make("option", { value: type }, type)));
  const area = make("textarea", { id: `${prefix}-body`, spellcheck: "false" });
  const members = make("div");
  const update = () => {
    const schema = content[select.value].schema;
    const value = content[select.value].example ?? example(schema);
    area.value = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    members.replaceChildren(...[memberTable(schema)].filter(Boolean));
  };
  select.addEventListener("change", update);
  update();
  const element = make("div", {},
    make("h3", {}, "Body"),
    operation.requestBody.description ? make("p", {}, ...inline(operation.requestBody.description)) : null,
    make("label", { for: select.id }, "Content type "), select, members,
    make("label", { for: area.id }, "Text"), area);
  return { element, select, area };
}

/** The meaning of a response; the error codes in it lead to their sections. */
function meaning(text) {
  return text.split(/\b([A-Z]+(?:_[A-Z]+)*)\b/).flatMap((part, at) => {
    const known = at % 2 === 1 && document.getElementById(errorId(part)) !== null;
    return known ? [make("a", { href: `#${errorId(part)}` }, make("code", {}, part))] : inline(part);
  });
}

function responseTable(operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, value]) => {
    const response = resolve(value);
    const content = Object.values(response.content ?? {})[0];
    return make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, ...meaning(response.description ?? "")), make("td", {}, typeName(content?.schema)));
  });
  const head = make("tr", {}, ...["Status", "Meaning", "Body"].map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

/** What is sent: address, method, headers and body. */
function request(path, method, fields, body) {
  const headers = new Headers({ Accept: "application/json" });
  const query = new URLSearchParams();
  let target = path;
  for (const { parameter, input } of fields) {
    const value = input.value.trim();
    if (value === "") continue;
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(value));
    if (parameter.in === "header") headers.set(parameter.name, value);
    if (parameter.in === "query") value.split(",").forEach((one) => query.append(parameter.name, one.trim()));
  }
  const key = document.getElementById("key").value.trim();
  if (key !== "") headers.set("X-API-Key", key);
  const options = { method: method.toUpperCase(), headers, credentials: "omit", cache: "no-store" };
  if (body && body.area.value.trim() !== "") {
    headers.set("Content-Type", body.select.value);
    options.body = body.area.value;
  }
  const text = query.toString();
  return [text ? `${target}?${text}` : target, options];
}

/** JSON laid out for reading. Its tokens stay as they came, since 1.0 and long numbers would change by being read. */
function indented(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const tokens = text.match(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g) ?? [];
  const lines = [""];
  let depth = 0;
  const add = (part) => { lines[lines.length - 1] += part; };
  const turn = () => lines.push("  ".repeat(depth));
  tokens.forEach((token, at) => {
    const [opens, closes] = [token === "{" || token === "[", token === "}" || token === "]"];
    const follows = opens ? tokens[at + 1] : tokens[at - 1];
    const empty = (opens && (follows === "}" || follows === "]")) || (closes && (follows === "{" || follows === "["));
    if (opens) depth += 1;
    if (closes) depth -= 1;
    if (closes && !empty) turn();
    add(token === ":" ? ": " : token);
    if ((opens && !empty) || token === ",") turn();
  });
  return lines.join("\n");
}

async function send(output, button, address, options) {
  button.disabled = true;
  output.replaceChildren(make("p", {}, "Waiting …"));
  try {
    const began = performance.now();
    const response = await fetch(address, options);
    const text = await response.text();
    const elapsed = Math.round(performance.now() - began);
    const line = make("p", {},
      make("span", { class: `status ${response.ok ? "good" : "bad"}` }, `${response.status} ${response.statusText}`),
      ` in ${elapsed} ms · ${options.method} ${address}`);
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    output.replaceChildren(line,
      make("h3", {}, "Response body"), make("pre", {}, text === "" ? "(empty)" : indented(text)),
      make("h3", {}, "Response headers"), make("pre", {}, headers));
  } catch (error) {
    output.replaceChildren(make("p", { class: "status bad" }, `No answer: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

function fillOperation(body, path, method, operation, prefix) {
  const fields = (operation.parameters ?? []).map((parameter) => parameterField(resolve(parameter), prefix));
  const requestBody = bodyFields(operation, prefix);
  const scopes = [...new Set((operation.security ?? []).flatMap((one) => Object.values(one).flat()))];
  const button = make("button", { type: "submit" }, "Try it");
  const output = make("div", { role: "status" });
  const form = make("form", { autocomplete: "off" }, parameterTable(fields), requestBody?.element, make("p", {}, button), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(output, button, ...request(path, method, fields, requestBody));
  });
  body.append(...[
    operation.description ? make("p", {}, ...inline(operation.description)) : null,
    scopes.length > 0 ? make("p", { class: "hint" }, `Needs a key with the scope ${scopes.join(", ")}.`) : null,
    form,
    make("h3", {}, "Responses"),
    responseTable(operation),
  ].filter(Boolean));
}

function operationElement(path, method, operation) {
  const id = operation.operationId ?? `${method}-${path}`;
  const body = make("div", { class: "body" });
  const summary = make("summary", {},
    make("span", { class: `method ${method}` }, method.toUpperCase()),
    make("span", { class: "path" }, path),
    make("span", { class: "summary" }, operation.summary ?? ""));
  const element = make("details", { class: "operation", id }, summary, body);
  element.addEventListener("toggle", () => {
    if (element.open && body.childElementCount === 0) fillOperation(body, path, method, operation, id);
  });
  return element;
}

/** Operations by tag, in the order in which the document lists the tags. */
function byTag() {
  const groups = new Map((description.tags ?? []).map((tag) => [tag.name, { tag, operations: [] }]));
  for (const [path, item] of Object.entries(description.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const name = item[method].tags?.[0] ?? "other";
      if (!groups.has(name)) groups.set(name, { tag: { name }, operations: [] });
      groups.get(name).operations.push([path, method, item[method]]);
    }
  }
  return [...groups.values()].filter((group) => group.operations.length > 0);
}

function openLinked() {
  const element = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (element instanceof HTMLDetailsElement) element.open = true;
  element?.scrollIntoView();
}

function show(guide) {
  document.title = `${description.info.title} API ${description.info.version}`;
  document.getElementById("title").textContent = document.title;
  document.getElementById("description").textContent = description.info.description ?? "";
  const [index, main] = [document.getElementById("index"), document.getElementById("operations")];
  main.replaceChildren();
  for (const { tag, operations } of byTag()) {
    const elements = operations.map(([path, method, operation]) => operationElement(path, method, operation));
    main.append(make("section", {}, make("h2", {}, tag.name), tag.description ? make("p", { class: "hint" }, tag.description) : null, ...elements));
    const links = operations.map(([, , operation], at) => make("a", { href: `#${elements[at].id}` }, operation.summary ?? elements[at].id));
    index.append(make("h2", {}, tag.name), ...links);
  }
  if (guide !== "") {
    main.append(errorSection(guide));
    index.append(make("h2", {}, "errors"), make("a", { href: "#errors" }, "Error codes"));
  }
  openLinked();
}

async function load(address) {
  const response = await fetch(address, { credentials: "omit" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

async function start() {
  document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", openLinked);
  try {
    // Without the guide the page still does its work.
    const guide = load("/docs/error-codes.md").then((response) => response.text()).catch(() => "");
    description = await (await load("/openapi.json")).json();
    show(await guide);
  } catch (error) {
    document.getElementById("loading").textContent = `The description could not be loaded: ${error.message}`;
  }
}

start();
