// Small help for building the page. Text goes in as text, never as HTML.

export function byId(id) {
  return document.getElementById(id);
}

/** `make('li', {className: 'own'}, 'text', node)` */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Gives a button its icon and, when it has another meaning from now on, its name. */
export function dress(button, iconName, label) {
  button.querySelector('.icon')?.remove();
  button.prepend(icon(iconName));
  if (label) {
    button.title = label;
    button.setAttribute('aria-label', label);
  }
}

/** Address of another resource of the server, also when it is not at the top of its host. */
export function resource(path) {
  const url = new URL(path, document.baseURI);
  url.hash = '';
  url.search = '';
  return url;
}

export function roomLink(room) {
  const url = resource('.');
  url.hash = `/rooms/${encodeURIComponent(room)}`;
  return url.href;
}

/** Resolves with what the server's REST interface says, or with `otherwise`. */
export async function rest(path, otherwise) {
  try {
    const response = await fetch(resource(path));
    return response.ok ? await response.json() : otherwise;
  } catch {
    return otherwise;
  }
}
