// What each stream carries now: from two samples of its peer connection.

import { byId, make } from './page.js';

const SAMPLE_INTERVAL_MS = 1_000;

export class Statistics {
  #streams;
  #former = new Map();
  #timer = null;

  /** `streams()` lists the streams to show. */
  constructor(streams) {
    this.#streams = streams;
  }

  start() {
    this.stop();
    this.#timer = setInterval(() => this.#update(), SAMPLE_INTERVAL_MS);
    this.#update();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #update() {
    const streams = this.#streams();
    const sections = await Promise.all(streams.map((stream) => this.#section(stream)));
    if (this.#timer === null) return;
    byId('statistics-list').replaceChildren(...(sections.length > 0 ? sections : [
      make('p', { className: 'note' }, 'Nothing is sent or received.'),
    ]));
  }

  async #section(stream) {
    const title = make('h3', {}, stream.getParticipant().getID() + (stream.isLocal ? ' (you)' : ''));
    const report = await stream.getStats().catch(() => null);
    if (!report) return make('section', {}, title, make('p', { className: 'note' }, 'Not connected.'));
    const gid = stream.getGlobalID();
    const rows = summarise(report, this.#former.get(gid));
    this.#former.set(gid, new Map([...report].map(([id, entry]) => [id, entry])));
    const table = make('table', {}, make('tbody', {}, ...rows.map(([name, value]) => make('tr', {},
      Object.assign(make('th', {}, name), { scope: 'row' }), make('td', {}, value)))));
    return make('section', {}, title, table);
  }
}

/** By how much the layers of simulcast are smaller than the camera's picture, by the names that the client gives them. */
const SCALES = { q: 4, h: 2, f: 1 };

/** Rows `[name, text]` from a report and the one before it (maps of id to entry). */
export function summarise(report, former = new Map()) {
  const rows = [];
  const streams = [...report.values()].filter(({ type }) => type === 'outbound-rtp' || type === 'inbound-rtp');
  // Sound first, then layers from the smallest to the largest.
  const rank = ({ kind, rid }) => (kind === 'video' ? 1 / (SCALES[rid] ?? 1) : 0);
  streams.sort((a, b) => rank(a) - rank(b));
  for (const entry of streams) rows.push(...streamRows(entry, former.get(entry.id), report));
  const pair = [...report.values()].find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');
  if (pair?.currentRoundTripTime !== undefined) rows.push(['Round trip', `${Math.round(pair.currentRoundTripTime * 1000)} ms`]);
  return rows;
}

function streamRows(entry, before, report) {
  const sent = entry.type === 'outbound-rtp';
  const name = `${sent ? 'Sent' : 'Received'} ${entry.kind}${entry.rid ? `, ${layerName(entry, report)}` : ''}`;
  if (entry.active === false) return [[name, 'not needed']];
  const rows = [];
  if (before && entry.timestamp > before.timestamp) {
    const bytes = sent ? entry.bytesSent - before.bytesSent : entry.bytesReceived - before.bytesReceived;
    const kilobits = (bytes * 8) / (entry.timestamp - before.timestamp);
    rows.push([name, `${Math.round(kilobits)} kbit/s`]);
  } else {
    rows.push([name, '…']);
  }
  const codec = report.get(entry.codecId)?.mimeType?.split('/')[1];
  if (codec) rows.push(['Codec', codec]);
  if (entry.frameWidth) {
    rows.push(['Picture', `${entry.frameWidth} × ${entry.frameHeight}, ${Math.round(entry.framesPerSecond ?? 0)} fps`]);
  }
  const loss = sent ? remoteLoss(report.get(entry.remoteId)) : recentLoss(entry, before);
  if (loss !== null) rows.push(['Lost', `${(loss * 100).toFixed(1)} %`]);
  return rows;
}

/** `360p`, also of a layer that is not sent at the moment. */
function layerName({ rid, frameHeight, mediaSourceId }, report) {
  const scale = SCALES[rid];
  const height = frameHeight ?? report.get(mediaSourceId)?.height / scale;
  if (height > 0) return `${Math.round(height)}p`;
  return scale > 1 ? `1/${scale} of the size` : 'full size';
}

function remoteLoss(remote) {
  return remote?.fractionLost ?? null;
}

function recentLoss(entry, before) {
  if (!before) return null;
  const lost = entry.packetsLost - before.packetsLost;
  const received = entry.packetsReceived - before.packetsReceived;
  return lost + received > 0 ? Math.max(0, lost) / (lost + received) : null;
}
