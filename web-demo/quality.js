// Which quality of a picture comes, and the user's choice among them.

import { make } from './page.js';

/** What the user can choose, and the layer it means. */
const CHOICES = [['auto', 'Automatic', undefined], ['low', 'Low', 0], ['mid', 'Middle', 1], ['high', 'High', 2]];

const PAUSES = {
  client: 'Paused',
  room: 'Paused: others speak',
  bandwidth: 'Paused: slow connection',
  source: 'No picture is sent',
};

/** `720p`, or why there is no picture; empty before the server has said. */
export function describeDelivery(delivery) {
  if (!delivery) return '';
  const { paused, height, spatialLayer, spatialLayers } = delivery;
  if (paused) return PAUSES[paused] ?? 'Paused';
  return height > 0 ? `${height}p` : `Quality ${spatialLayer + 1} of ${spatialLayers}`;
}

/** The badge of a tile. */
export class Quality {
  node;
  #stream;
  #text = make('span', { className: 'layer' });
  #choice;
  #isMain = false;

  constructor(stream) {
    this.#stream = stream;
    this.node = make('span', { className: 'quality' }, this.#text);
    if (!stream.isLocal) this.#offerChoice();
    this.show(stream.getVideoDelivery());
  }

  show(delivery) {
    const text = describeDelivery(delivery);
    this.#text.textContent = text;
    this.node.hidden = text === '';
    this.node.classList.toggle('paused', Boolean(delivery?.paused));
  }

  /** The main picture is improved before the others. */
  setMain(isMain) {
    if (this.#isMain === isMain) return;
    this.#isMain = isMain;
    this.#prefer();
  }

  #offerChoice() {
    const name = this.#stream.getParticipant().getID();
    const options = CHOICES.map(([value, label]) => make('option', { value }, label));
    this.#choice = make('select', { title: 'Quality of this picture' }, ...options);
    this.#choice.setAttribute('aria-label', `Quality of the picture of ${name}`);
    this.#choice.addEventListener('change', () => {
      this.node.classList.toggle('chosen', this.#choice.value !== 'auto');
      this.#prefer();
    });
    // The tile below is a button of its own.
    for (const event of ['click', 'keydown']) {
      this.#choice.addEventListener(event, (happening) => happening.stopPropagation());
    }
    this.node.append(this.#choice);
  }

  #prefer() {
    if (this.#stream.isLocal) return;
    const [, , spatialLayer] = CHOICES.find(([value]) => value === this.#choice.value);
    const preferences = {};
    if (this.#isMain) preferences.priority = 'high';
    if (spatialLayer !== undefined) preferences.spatialLayer = spatialLayer;
    // A server that refuses sends what it would have sent.
    this.#stream.setPreferences(preferences).catch(() => {});
  }
}
