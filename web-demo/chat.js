// Messages to everybody in the room.

import { byId, make } from './page.js';

/** Older messages go: a room may stay open for days. */
const MESSAGES_MAX = 500;

export class Chat {
  #list = byId('messages');
  #user;

  /** `send(text)` gives a promise. */
  constructor(user, send, signal) {
    this.#user = user;
    this.#list.replaceChildren();
    byId('chat-form').addEventListener('submit', async (event) => {
      event.preventDefault();
      const input = byId('inputMessage');
      const text = input.value.trim();
      if (!text) return;
      input.value = '';
      try {
        await send(text);
      } catch {
        this.#append('', `Not delivered: ${text}`, 'failed');
        input.value ||= text;
      }
    }, { signal });
  }

  add({ user, message }) {
    this.#append(user, message, user === this.#user ? 'own' : '');
  }

  #append(user, text, className) {
    const atEnd = this.#list.scrollTop + this.#list.clientHeight > this.#list.scrollHeight - 40;
    const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    const previous = this.#list.lastElementChild;
    const item = make('li', { className });
    item.dataset.user = user;
    if (previous?.dataset.user !== user && className !== 'own') {
      item.append(make('span', { className: 'author' }, user));
    }
    item.append(make('span', { className: 'text', title: time }, text));
    this.#list.append(item);
    if (this.#list.children.length > MESSAGES_MAX) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}
