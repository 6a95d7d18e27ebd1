// What the demo computes; the rest of it is tested in browsers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recall, remember } from '../../../../web-demo/memory.js';
import { ask, explain, explainInterruption, explainMediaError, explainMediaFailure } from '../../../../web-demo/notices.js';
import { callHash, isCallHash, readParameters, roomOfHash } from '../../../../web-demo/parameters.js';
import { describeDelivery } from '../../../../web-demo/quality.js';
import { summarise } from '../../../../web-demo/statistics.js';
import { columnsFor } from '../../../../web-demo/tiles.js';

test('tiles are as large as the place allows', () => {
  const rows = [
    [1, 1280, 640, 1], [2, 1280, 640, 2], [2, 360, 600, 1], [4, 1280, 640, 2], [5, 1280, 640, 3], [9, 1280, 640, 3], [0, 1280, 640, 1],
  ];
  for (const [count, width, height, columns] of rows) {
    assert.equal(columnsFor(count, width, height).columns, columns, `${count} in ${width} × ${height}`);
  }
});

test('parameters of the address', () => {
  const plain = readParameters('', '');
  assert.deepEqual([plain.name, plain.room, plain.join, plain.media, plain.video, plain.codec], ['', '', false, 'both', null, undefined]);
  const all = readParameters('?name=a%20b&room=lab&join=1&media=audio&video=320x180&codec=VP9&simulcast=1&loopback=1&data=1&adaptive=0', '');
  assert.deepEqual(all, {
    name: 'a b', room: 'lab', join: true, media: 'audio', video: { width: 320, height: 180 }, codec: 'VP9', simulcast: true, adaptive: false, loopback: true, data: true,
  });
  assert.equal(readParameters('?media=sculpture&video=big', '').media, 'both');
  assert.equal(readParameters('?room=a', '#/rooms/b%2Fc').room, 'b/c');
  assert.equal(roomOfHash('#/rooms/100%'), '100%', 'not encoded properly, still a room');
  assert.equal(roomOfHash('#/call'), null);
});

test('the address of a call has its room', () => {
  for (const room of ['lab', 'a/call', '100% ü']) {
    const hash = callHash(room);
    assert.ok(isCallHash(hash), hash);
    assert.equal(roomOfHash(hash), room);
  }
  assert.ok(!isCallHash('#/rooms/lab'));
});

test('a tab remembers its call, where it may', () => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  assert.equal(recall('lab'), null);
  remember({ name: 'ana', room: 'lab', media: 'audio', loopback: false });
  assert.equal(recall('lab').media, 'audio');
  assert.equal(recall('other'), null);
  delete globalThis.sessionStorage;
  remember({});
  assert.equal(recall('lab'), null);
});

test('deliveries are told in the words of users', () => {
  const sent = { spatialLayer: 1, temporalLayer: 2, spatialLayers: 3, height: 360 };
  assert.equal(describeDelivery(null), '');
  assert.equal(describeDelivery(sent), '360p');
  assert.equal(describeDelivery({ ...sent, height: 0 }), 'Quality 2 of 3');
  assert.equal(describeDelivery({ ...sent, spatialLayer: 0, spatialLayers: 1 }), '360p');
  assert.match(describeDelivery({ paused: 'bandwidth' }), /slow connection/);
  assert.equal(describeDelivery({ paused: 'weather' }), 'Paused');
});

/** As in browsers: it tells of its end a moment later, and only if it was open. */
class Dialog extends EventTarget {
  open = false;
  returnValue = '';

  constructor(page) {
    super();
    this.page = page;
    page.question = this;
  }

  cloneNode() {
    return new Dialog({});
  }

  replaceWith(other) {
    other.page = this.page;
    this.page.question = other;
  }

  querySelector() {
    return new Part();
  }

  showModal() {
    this.open = true;
  }

  close(value) {
    if (!this.open) return;
    this.open = false;
    this.returnValue = value;
    setTimeout(() => this.dispatchEvent(new Event('close')));
  }
}

class Part {
  append() {}
  replaceChildren() {}
}

test('a question is gone with what it was asked for', async (context) => {
  const page = {};
  new Dialog(page);
  globalThis.document = { getElementById: (id) => page[id] ?? new Part(), createElement: () => new Part() };
  context.after(() => delete globalThis.document);
  const stay = new AbortController();
  const open = (signal) => ask('Title', 'text', [['yes', 'Yes']], signal);
  const first = open(stay.signal);
  page.question.close('yes');
  assert.equal(await first, 'yes');
  // What the first one was asked for does not close the next one.
  const second = open();
  stay.abort();
  assert.ok(page.question.open);
  page.question.close('yes');
  assert.equal(await second, 'yes');
  assert.equal(await Promise.race([open(stay.signal), null]), '', 'it is over already');
  assert.ok(!page.question.open);
  const next = new AbortController();
  const third = open(next.signal);
  next.abort();
  assert.equal(await third, '');
  // The end of one, told late, is not the end of the next.
  const replaced = open();
  const answered = open();
  page.question.close('yes');
  const last = open();
  assert.deepEqual([await replaced, await answered], ['', 'yes']);
  assert.ok(page.question.open);
  page.question.close('yes');
  assert.equal(await last, 'yes');
});

test('errors are told in the words of users', () => {
  assert.match(explain({ code: 104, message: 'x' }), /name/);
  assert.match(explain(new DOMException('x', 'NotAllowedError')), /Allow/);
  assert.match(explain({ code: 7, message: 'the reason' }), /the reason/);
});

test('errors of media say what happened and what to do', () => {
  const stopping = explainMediaError('SERVER_SHUTDOWN: the server is shutting down, join again later(errCode=1001)');
  assert.match(stopping.title, /shutting down/);
  assert.ok(stopping.closes);
  assert.ok(explainMediaError('MEDIA_SERVER_LOST: join again(errCode=40007)').closes);
  const other = explainMediaError('STREAM_ERROR_FAILED: source VP8, sink accepts H264(errCode=1)');
  assert.match(other.text, /source VP8/);
  assert.ok(!other.closes);
  assert.match(explainMediaError('constructor: x').text, /constructor/);
  assert.match(explainMediaFailure({ code: 803 }), /firewall/);
  assert.match(explainMediaFailure({ code: 302 }), /did not accept/);
});

test('an interruption is told of those whom it concerns', () => {
  const rows = [
    [['bob'], false, false, /^Nothing comes from bob\. Connecting/],
    [['bob', 'carol'], false, false, /^Nothing comes from bob and carol\./],
    [['b', 'c', 'd'], false, false, /from b, c and d\./],
    [['b', 'c', 'd', 'e'], false, false, /from b, c and 2 others\./],
    [[], true, false, /^Your sound and picture do not reach the others\./],
    [['bob'], true, false, /^Your sound .* others, and nothing comes from bob\./],
    [['bob'], true, true, /^No sound and pictures come through\./],
  ];
  for (const [names, own, all, expected] of rows) {
    const text = explainInterruption({ names, own, all });
    assert.match(text, expected);
    assert.match(text, /join again\.$/);
  }
});

test('statistics name layers by their size', () => {
  const layer = (rid, more) => ({ id: rid, type: 'outbound-rtp', kind: 'video', rid, mediaSourceId: 'S', timestamp: 1, bytesSent: 0, ...more });
  const layers = [layer('f', { active: false }), layer('h', { frameWidth: 640, frameHeight: 360 }), layer('q', {})];
  const names = (report) => {
    const rows = summarise(new Map(report.map((each) => [each.id, each])));
    return rows.filter(([name]) => name.startsWith('Sent')).map((row) => row.join(': '));
  };
  const source = { id: 'S', type: 'media-source', kind: 'video', height: 720 };
  assert.deepEqual(names([...layers, source]), ['Sent video, 180p: …', 'Sent video, 360p: …', 'Sent video, 720p: not needed']);
  assert.deepEqual(names(layers), ['Sent video, 1/4 of the size: …', 'Sent video, 360p: …', 'Sent video, full size: not needed']);
});

test('statistics compare two samples', () => {
  const codec = { id: 'C', type: 'codec', mimeType: 'video/VP8' };
  const pair = { id: 'P', type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.0123 };
  const entry = {
    id: 'I', type: 'inbound-rtp', kind: 'video', codecId: 'C', timestamp: 1000, bytesReceived: 1000, packetsLost: 0, packetsReceived: 10, frameWidth: 320, frameHeight: 180, framesPerSecond: 14.9,
  };
  const report = (inbound) => new Map([codec, pair, inbound].map((each) => [each.id, each]));
  const first = report(entry);
  const second = report({ ...entry, timestamp: 3000, bytesReceived: 76_000, packetsLost: 1, packetsReceived: 19 });
  assert.deepEqual(summarise(second, first), [
    ['Received video', '300 kbit/s'], ['Codec', 'VP8'], ['Picture', '320 × 180, 15 fps'], ['Lost', '10.0 %'], ['Round trip', '12 ms'],
  ]);
  assert.deepEqual(summarise(first)[0], ['Received video', '…']);
});
