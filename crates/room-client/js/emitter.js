// Named events with any number of listeners, in the order they were added.

export class Emitter {
  #listeners = new Map();

  addEventListener(name, listener) {
    this.#add(name, listener, listener);
    return this;
  }

  once(name, listener) {
    const wrapper = (...args) => {
      this.#keep(name, ({ call }) => call !== wrapper);
      listener(...args);
    };
    this.#add(name, listener, wrapper);
    return this;
  }

  removeEventListener(name, listener) {
    this.#keep(name, (entry) => entry.listener !== listener);
    return this;
  }

  /** Calls the listeners with the members of `args`; one that throws does not stop the others. */
  emitEvent(name, args = []) {
    for (const { call } of this.#listeners.get(name) ?? []) {
      try {
        call(...args);
      } catch (error) {
        console.error(`listener of '${name}' threw`, error);
      }
    }
  }

  #keep(name, wanted) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter(wanted));
  }

  #add(name, listener, call) {
    // A fresh array, so that an emission under way keeps the listeners it started with.
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), { listener, call }]);
  }
}
