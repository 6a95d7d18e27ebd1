// The form: who, which room, with what.

import { byId, make, rest, roomLink } from './page.js';

const ROOMS_REFRESH_MS = 10_000;
const INPUTS = { name: () => byId('name'), room: () => byId('roomName') };

export class Login {
  #page = byId('login');
  #form = byId('form');
  #refreshTimer = null;

  /** `onjoin({name, room, media, loopback})` */
  constructor(onjoin) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const choice = this.#read();
      if (choice) onjoin(choice);
    });
    byId('roomName').addEventListener('input', () => this.#showLink());
    byId('name').addEventListener('input', () => this.#forgive('name'));
    byId('roomName').addEventListener('input', () => this.#forgive('room'));
  }

  fill({ name, room, media, loopback }) {
    if (name) byId('name').value = name;
    if (room) byId('roomName').value = room;
    if (media) this.#form.elements.media.value = media;
    if (loopback !== undefined) byId('loopback').checked = loopback;
    if (room) this.#forgive('room');
    this.#showLink();
  }

  show() {
    this.#page.hidden = false;
    this.busy(false);
    document.title = 'Tertulia';
    (byId('name').value ? byId('roomName').value ? byId('joinBtn') : byId('roomName') : byId('name')).focus();
    this.#refresh();
    clearInterval(this.#refreshTimer);
    this.#refreshTimer = setInterval(() => this.#refresh(), ROOMS_REFRESH_MS);
  }

  hide() {
    this.#page.hidden = true;
    clearInterval(this.#refreshTimer);
  }

  busy(isBusy) {
    byId('joinBtn').disabled = isBusy;
    byId('joinBtn').textContent = isBusy ? 'Joining…' : 'Join';
  }

  /** `field`: `name`, `room` or `form`. */
  problem(field, text) {
    byId(`${field}-problem`).textContent = text;
    INPUTS[field]?.().setAttribute('aria-invalid', 'true');
    INPUTS[field]?.().focus();
  }

  /** The problem is being dealt with. */
  #forgive(field) {
    byId(`${field}-problem`).textContent = '';
    INPUTS[field]?.().removeAttribute('aria-invalid');
  }

  submit() {
    this.#form.requestSubmit();
  }

  #read() {
    for (const field of ['name', 'room', 'form']) this.#forgive(field);
    const name = byId('name').value.trim();
    const room = byId('roomName').value.trim();
    // The last problem gets the focus.
    if (!room) this.problem('room', 'Choose a room.');
    if (!name) this.problem('name', 'Say what you are called.');
    if (!name || !room) return null;
    return { name, room, media: this.#form.elements.media.value, loopback: byId('loopback').checked };
  }

  #showLink() {
    const room = byId('roomName').value.trim();
    byId('share').hidden = !room;
    if (!room) return;
    const link = byId('share-link');
    link.href = roomLink(room);
    link.textContent = roomLink(room);
  }

  async #refresh() {
    const rooms = await rest('getAllRooms', []);
    if (!Array.isArray(rooms)) return;
    rooms.sort((a, b) => String(a).localeCompare(String(b)));
    byId('rooms').replaceChildren(...rooms.map((room) => make('option', { value: room })));
    const list = byId('open-rooms').querySelector('ul');
    // Left alone when nothing changed: a focused button must not vanish under the user.
    const shown = [...list.querySelectorAll('button')].map((button) => button.textContent);
    if (shown.join('\n') === rooms.join('\n')) return;
    byId('open-rooms').hidden = rooms.length === 0;
    list.replaceChildren(...rooms.map((room) => make('li', {}, make('button', {
      type: 'button',
      onclick: () => this.fill({ room }),
    }, String(room)))));
  }
}
