// The dialog that chooses microphone, camera and speaker.

import { explain } from './notices.js';
import { byId, make } from './page.js';

const KINDS = ['audioinput', 'videoinput', 'audiooutput'];
const NAMES = { audioinput: 'Microphone', videoinput: 'Camera', audiooutput: 'Speaker' };

export class Devices {
  /** What was chosen, by kind of device; '' is the system's choice. */
  chosen = { audioinput: '', videoinput: '', audiooutput: '' };
  #onchange;

  /** `onchange(kind, deviceId)` gives a promise. */
  constructor(onchange, signal) {
    this.#onchange = onchange;
    for (const kind of KINDS) {
      byId(`device-${kind}`).addEventListener('change', (event) => this.#choose(kind, event.target.value), { signal });
    }
    navigator.mediaDevices?.addEventListener('devicechange', () => this.#list(), { signal });
  }

  async open() {
    byId('device-note').textContent = '';
    await this.#list();
    byId('settings').showModal();
  }

  /** For `getUserMedia`: the chosen device if there is one. */
  constraints(kind, others = {}) {
    const deviceId = this.chosen[kind];
    if (deviceId) return { ...others, deviceId: { exact: deviceId } };
    return Object.keys(others).length > 0 ? others : undefined;
  }

  async #list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    for (const kind of KINDS) {
      const select = byId(`device-${kind}`);
      const found = devices.filter((device) => device.kind === kind && device.deviceId);
      select.replaceChildren(make('option', { value: '' }, found.length > 0 ? 'System default' : 'None found'), ...found.map((device, index) => {
        return make('option', { value: device.deviceId }, device.label || `${NAMES[kind]} ${index + 1}`);
      }));
      select.value = this.chosen[kind];
      if (select.selectedIndex < 0) select.value = '';
    }
    const output = byId('device-audiooutput');
    if (!('setSinkId' in HTMLMediaElement.prototype)) {
      output.replaceChildren(make('option', { value: '' }, 'This browser leaves it to the system'));
      output.disabled = true;
    }
  }

  async #choose(kind, deviceId) {
    this.chosen[kind] = deviceId;
    byId('device-note').textContent = '';
    try {
      await this.#onchange(kind, deviceId);
    } catch (error) {
      byId('device-note').textContent = explain(error);
    }
  }
}
