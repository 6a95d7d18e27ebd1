// Time that passes when a test says so. Node's own mock of timers is younger than the Node of Debian 12.

import { mock } from 'node:test';

class Clock {
  now = 0;
  #timers = new Map();
  #made = 0;

  set(callback, delay = 0, period = null) {
    this.#made += 1;
    this.#timers.set(this.#made, { due: this.now + delay, callback, period });
    return this.#made;
  }

  clear(id) {
    this.#timers.delete(id);
  }

  /** Fires what is due on the way, earliest first. */
  advance(milliseconds) {
    const end = this.now + milliseconds;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [id, timer] = next;
      this.now = Math.max(this.now, timer.due);
      if (timer.period === null) this.#timers.delete(id);
      else timer.due = this.now + timer.period;
      timer.callback();
    }
    this.now = end;
  }

  #next(end) {
    const due = [...this.#timers].filter(([, timer]) => timer.due <= end);
    return due.sort(([, one], [, other]) => one.due - other.due)[0];
  }
}

let clock = null;

/** Replaces the timers and the time of day; `mock.restoreAll` brings them back. */
export function installClock() {
  clock = new Clock();
  const clear = (id) => clock.clear(id);
  mock.method(globalThis, 'setTimeout', (callback, delay) => clock.set(callback, delay));
  mock.method(globalThis, 'clearTimeout', clear);
  mock.method(globalThis, 'setInterval', (callback, delay) =>
    clock.set(callback, delay, Math.max(delay, 1)),
  );
  mock.method(globalThis, 'clearInterval', clear);
  mock.method(Date, 'now', () => clock.now);
}

/** Lets time pass. */
export function advance(milliseconds) {
  clock.advance(milliseconds);
}
