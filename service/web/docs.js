/* The reference: /openapi.json as a page, without a library from another host. */
import { byId, h } from "/web/dom.js";

const spec = await (await fetch("/openapi.json")).json();
const schemas = spec.components.schemas;

// --- schemas ----------------------------------------------------------------------------------------------------------

const nameOf = (schema) => schema.$ref?.split("/").pop();
const anchor = (name) => `schema-${name}`;

/** What a value looks like, in few words; names of schemas are links. */
function type(schema) {
  if (schema.$ref) return [h("a", { href: `#${anchor(nameOf(schema))}` }, nameOf(schema))];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((one, index) => (index ? [" | ", ...type(one)] : type(one)));
  if (schema.contentSchema) return ["JSON of ", ...type(schema.contentSchema)];
  if (schema.type === "array") return ["list of ", ...type(schema.items ?? {})];
  return [[schema.type ?? "any"].flat().join(" | "), limits(schema)];
}

function limits({ minLength, maxLength, minimum, maximum, pattern }) {
  const [least, most] = [minLength ?? minimum, maxLength ?? maximum];
  const range = least !== undefined || most !== undefined ? ` ${least ?? ""}…${most?.toLocaleString("en") ?? ""}` : "";
  return range + (pattern ? ` ${pattern}` : "");
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const required = schema.required?.includes(name) ? h("sup", { title: "required" }, "*") : null;
    const usual = field.default !== undefined && field.default !== null ? ` Default: ${JSON.stringify(field.default)}.` : "";
    return h("tr", {}, h("td", {}, name, required), h("td", {}, ...type(field)), h("td", {}, ...code(field.description), usual));
  });
  return rows.length ? h("table", {}, ...rows) : null;
}

// --- routes -----------------------------------------------------------------------------------------------------------

function operation(path, method, { summary, description, parameters, requestBody, responses }) {
  const body = requestBody?.content["application/json"].schema;
  return h("section", { id: `${method}-${path}` },
    h("h2", {}, h("span.verb", {}, method.toUpperCase()), ` ${path}`),
    h("p", {}, summary ?? ""),
    h("p.more", {}, ...code(description)),
    ...(parameters?.length ? [h("h3", {}, "Parameters"), table(parameters.map(parameter))] : []),
    ...(body ? [h("h3", {}, "Body, ", ...type(body)), fields(schemas[nameOf(body)] ?? body)] : []),
    h("h3", {}, "Answers"),
    table(Object.entries(responses).map(answer)),
  );
}

const table = (rows) => h("table", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, ...cell)))));
const parameter = ({ name, in: place, required, schema, description }) =>
  [[name, required ? h("sup", { title: "required" }, "*") : null], [`${place}, `, ...type(schema)], code(description)];
const answer = ([status, { description, content }]) => [[status], shapes(content), code(description)];

function shapes(content = {}) {
  return Object.entries(content).flatMap(([media, { schema, itemSchema }], index) =>
    [...(index ? [h("br")] : []), `${media} `, ...type(itemSchema ?? schema ?? {})]);
}

function schemaSection([name, schema]) {
  const rows = schema.oneOf ? table(schema.oneOf.map(event)) : fields(schema);
  return h("section", { id: anchor(name) }, h("h2", {}, name), h("p.more", {}, ...code(schema.description)), rows);
}

function event({ title, properties: { data } }) {
  return [[title], type(data), code(schemas[nameOf(data.contentSchema)].description)];
}

/** Text with `code` in it, as elements. */
function code(text = "") {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

const operations = Object.entries(spec.paths)
  .flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => [path, method, one]));
const named = Object.entries(schemas).sort(([one], [other]) => one.localeCompare(other));

byId("version").textContent = spec.info.version;
byId("contents").append(
  h("h2", {}, "Routes"),
  ...operations.map(([path, method]) => h("a", { href: `#${method}-${path}` }, h("span.verb", {}, method.toUpperCase()), path)),
  h("h2", {}, "Schemas"),
  ...named.map(([name]) => h("a", { href: `#${anchor(name)}` }, name)),
);
byId("reference").append(
  ...spec.info.description.split("\n\n").map((text) => h("p", {}, ...code(text))),
  ...operations.map((one) => operation(...one)),
  ...named.map(schemaSection),
);
document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
