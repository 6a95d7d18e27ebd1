// What this tab remembers of its call, so that a reload joins again.

const KEY = 'tertulia-call';

/** `{name, room, media, loopback}` */
export function remember(call) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(call));
  } catch {
    // The browser keeps nothing for this page: a reload shows the form.
  }
}

/** The call in that room which this tab was in, or null. */
export function recall(room) {
  try {
    const call = JSON.parse(sessionStorage.getItem(KEY));
    return call?.name && call.room === room ? call : null;
  } catch {
    return null;
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Then there is nothing to forget.
  }
}
