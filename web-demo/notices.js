// Telling the user: passing notices, a lasting banner, questions, and errors in their words.

import { byId, make } from './page.js';

const NOTICE_MS = 6_000;
const NOTICES_MAX = 4;

export function notify(text) {
  const list = byId('notices');
  const notice = make('p', { className: 'notice' }, text);
  list.append(notice);
  if (list.children.length > NOTICES_MAX) list.firstElementChild.remove();
  setTimeout(() => notice.remove(), NOTICE_MS);
}

/** Stays until it is replaced; an empty text takes it away. With `onclose` the user may put it away, too. */
export function banner(text, actionLabel, action, onclose) {
  const node = byId('banner');
  node.replaceChildren();
  if (!text) return;
  node.append(make('span', {}, text));
  if (actionLabel) {
    node.append(make('button', { type: 'button', onclick: action }, actionLabel));
  }
  if (onclose) node.append(make('button', { type: 'button', onclick: onclose }, 'Dismiss'));
}

/**
 * Resolves with the value of the chosen button, `[value, label]`; the first one is the main one. With '' if the user
 * closes it, or `signal` does, or has done.
 */
export function ask(title, text, buttons, signal) {
  if (signal?.aborted) return Promise.resolve('');
  // Browsers tell of the end of a dialog later, perhaps when the next one is open: each question has its own.
  const former = byId('question');
  former.close('');
  const dialog = former.cloneNode(true);
  former.replaceWith(dialog);
  byId('question-title').textContent = title;
  byId('question-text').textContent = text;
  dialog.querySelector('.buttons').replaceChildren(...buttons.map(([value, label], index) => {
    return make('button', { value, className: index === 0 ? 'primary' : '' }, label);
  }));
  dialog.showModal();
  const answered = new AbortController();
  signal?.addEventListener('abort', () => dialog.close(''), { once: true, signal: answered.signal });
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      answered.abort();
      resolve(dialog.returnValue);
    }, { once: true });
  });
}

const DEVICE_PROBLEMS = {
  NotAllowedError: 'The browser does not let this page use your camera or microphone. Allow it beside the address bar, then try again.',
  NotFoundError: 'No camera or microphone was found.',
  NotReadableError: 'The camera or microphone is in use by another program.',
  OverconstrainedError: 'Your camera cannot do what was asked of it.',
  NotSupportedError: 'Browsers give cameras and microphones only to secure pages. Open this page with https://, or on localhost.',
  AbortError: 'The camera or microphone did not start.',
};

const SERVER_PROBLEMS = {
  102: 'The server no longer knows you in this room. Leave and join again.',
  104: 'Somebody with this name is in the room already. Choose another name.',
  105: 'They are not publishing any more.',
  202: 'There is no such room.',
  203: 'The room is just closing. Try again in a moment.',
  204: 'The server cannot open this room now.',
  302: 'The server did not accept the media this browser offered.',
  801: 'The server did not answer in time.',
  803: 'The server cannot be reached.',
};

/** What the server says of media by its type, and whether the room is closed with it. */
const MEDIA_PROBLEMS = {
  MEDIA_SERVER_LOST: ['The media server was restarted', 'It has lost this call. Join again to go on.', true],
  SERVER_SHUTDOWN: ['The server is shutting down', 'Everybody has to leave. Join again when it is back.', true],
};

/** `{title, text, closes}` for what came as `TYPE: description(errCode=N)`. */
export function explainMediaError(error) {
  const type = /^(\w+):/.exec(error)?.[1];
  const other = ['The server reports a problem with the media', `It says: ${error}. If somebody cannot be seen or heard, join again.`, false];
  const [title, text, closes] = (Object.hasOwn(MEDIA_PROBLEMS, type) && MEDIA_PROBLEMS[type]) || other;
  return { title, text, closes };
}

/** How many are named where more are meant. */
const NAMES_MAX = 3;

/**
 * Whose media do not come through: `names` of others, `own` ones, or `all` there are.
 */
export function explainInterruption({ names, own, all }) {
  const who = names.length > NAMES_MAX ? [...names.slice(0, NAMES_MAX - 1), `${names.length - NAMES_MAX + 1} others`] : names;
  const others = who.length > 1 ? `${who.slice(0, -1).join(', ')} and ${who.at(-1)}` : who[0];
  const parts = [];
  if (own) parts.push('your sound and picture do not reach the others');
  if (others) parts.push(`nothing comes from ${others}`);
  const what = all ? 'no sound and pictures come through' : parts.join(', and ');
  return `${what[0].toUpperCase()}${what.slice(1)}. Connecting again… If this lasts, join again.`;
}

/** As `explain`, where the server was reached and media were not. */
export function explainMediaFailure(error) {
  return error?.code === 803 ? 'Media do not get through: a firewall may block them, or the media server is down.' : explain(error);
}

/** An error of a device or of the server, as a sentence for the user. */
export function explain(error) {
  return DEVICE_PROBLEMS[error?.name] ?? SERVER_PROBLEMS[error?.code] ?? `Something went wrong: ${error?.message ?? error}`;
}
