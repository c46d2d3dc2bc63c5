/* Elements without a framework, and numbers as people read them. */

/** Make an element: `h("p.empty", {title: "…"}, "text", child)`. Text is always text, never markup. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = Object.assign(document.createElement(tag), properties);
  if (classes.length) element.classList.add(...classes);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Milliseconds as people read them: 7 ms, 412 ms, 1.63 s. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms % 1000 === 0) return `${ms / 1000} s`;
  return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
}

/** Copy text, and let the button that was pressed say so for a moment. */
export async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed to copy";
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}
