// Elements from text: the parts of Markdown that the error guide and the descriptions use, and the guide's sections.
//
// Known are headings of the second level, paragraphs, lists, tables, fenced code and `code` within a line. Everything else
// stays as it is written: all of it goes through createElement and text nodes, so nothing is ever read as markup.
"use strict";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A line of text, with what stands between backticks as code. */
function inline(text) {
  return text.split("`").map((part, at) => (at % 2 === 1 ? make("code", {}, part) : part));
}

function table(lines) {
  const cells = (line) => line.split("|").slice(1, -1).map((cell) => inline(cell.trim()));
  const row = (line, tag) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...cell)));
  return make("table", {}, make("thead", {}, row(lines[0], "th")), make("tbody", {}, ...lines.slice(2).map((line) => row(line, "td"))));
}

/** The items of a list; a line that is indented goes on with the item before. */
function list(lines) {
  const items = lines.join("\n").split(/^- /m).slice(1);
  return make("ul", {}, ...items.map((item) => make("li", {}, ...inline(item.replace(/\s+/g, " ").trim()))));
}

/** The elements of a text without headings. */
function blocks(text) {
  // Fenced code may hold empty lines, so it is set apart before the text is split at them.
  return text.split(/^```/m).flatMap((part, at) => {
    if (at % 2 === 1) return [make("pre", {}, part.slice(part.indexOf("\n") + 1).trimEnd())];
    return part.split(/\n\s*\n/).map((block) => block.trim()).filter((block) => block !== "").map((block) => {
      const lines = block.split("\n");
      if (block.startsWith("|")) return table(lines);
      if (block.startsWith("- ")) return list(lines);
      return make("p", {}, ...inline(lines.join(" ")));
    });
  });
}

/** The anchor of an error code; problem documents point to it. */
function errorId(code) {
  return `error-${code.toLowerCase().replaceAll("_", "-")}`;
}

/** A section of the guide, folded: `## CODE`, then `Status N. Meaning.`, then the rest. */
function errorElement(section) {
  const end = section.indexOf("\n");
  const [code, body] = [section.slice(0, end).trim(), section.slice(end).trim()];
  const [, status, meaning, rest] = body.match(/^Status (\d+)\. (.*?)\n\n(.*)$/s) ?? [null, "", "", body];
  const color = Number(status) < 500 ? "patch" : "delete";
  const summary = make("summary", {},
    make("span", { class: `method ${color}` }, status),
    make("span", { class: "path" }, code),
    make("span", { class: "summary" }, ...inline(meaning)));
  return make("details", { class: "operation", id: errorId(code) }, summary, make("div", { class: "body" }, ...blocks(rest)));
}

/** The error guide as a section of the page. */
function errorSection(guide) {
  const [introduction, ...sections] = guide.split(/^## /m);
  return make("section", { id: "errors" },
    make("h2", {}, "Errors"),
    ...blocks(introduction.replace(/^# .*\n/, "")),
    ...sections.map(errorElement));
}
