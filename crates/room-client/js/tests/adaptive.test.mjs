// What an adaptive room asks for and obeys: sizes and visibility, layers that nobody watches, who speaks.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import {
  ANSWER, BOB, connected, FakePeerConnection, installBrowser, joined, names, server, settle, tick,
} from './fakes.mjs';

/** A video element as the observers see it. */
class Video {
  #listeners = new Map();
  visible = true;
  videoWidth = 0;
  videoHeight = 0;
  fit = 'cover';

  constructor(width, height) {
    Object.assign(this, { width, height });
  }

  getBoundingClientRect() {
    return { width: this.width, height: this.height };
  }

  addEventListener(name, listener) {
    this.#listeners.set(name, listener);
  }

  removeEventListener(name) {
    this.#listeners.delete(name);
  }

  get isWatched() {
    return this.#listeners.size > 0;
  }
}

const page = { listeners: new Set(), sizes: new Map(), views: new Map() };

function installObservers() {
  for (const each of Object.values(page)) each.clear();
  globalThis.ResizeObserver = class {
    constructor(callback) {
      this.callback = callback;
    }

    observe(element) {
      page.sizes.set(element, this.callback);
    }

    unobserve(element) {
      page.sizes.delete(element);
    }

    disconnect() {}
  };
  globalThis.IntersectionObserver = class {
    constructor(callback) {
      this.callback = callback;
    }

    observe(element) {
      page.views.set(element, this.callback);
      this.callback([{ target: element, isIntersecting: element.visible }]);
    }

    unobserve(element) {
      page.views.delete(element);
    }

    disconnect() {}
  };
  globalThis.document = {
    hidden: false,
    addEventListener: (_, listener) => page.listeners.add(listener),
    removeEventListener: (_, listener) => page.listeners.delete(listener),
  };
  globalThis.getComputedStyle = ({ fit }) => ({ objectFit: fit });
  globalThis.devicePixelRatio = 1;
}

function resize(video, width, height) {
  Object.assign(video, { width, height });
  page.sizes.get(video)();
}

function show(video, visible) {
  page.views.get(video)([{ target: video, isIntersecting: visible }]);
}

function hidePage(hidden) {
  document.hidden = hidden;
  for (const listener of page.listeners) listener();
}

beforeEach(() => {
  installBrowser();
  installObservers();
});

afterEach(() => {
  delete globalThis.ResizeObserver;
  delete globalThis.IntersectionObserver;
});

async function watching(options = { adaptive: true }) {
  const all = await joined([BOB], options);
  await server.answer('receiveVideoFrom', ANSWER);
  all.log.length = 0;
  server.requests();
  return { ...all, stream: all.room.getStreams().bob_webcam };
}

/** The wishes sent since the last call, each answered. */
async function wishes() {
  const sent = [];
  for (let more = true; more;) {
    await settle();
    const requests = server.requests().filter(({ method }) => method === 'setSubscription');
    more = requests.length > 0;
    for (const { id, params } of requests) {
      sent.push(params);
      await server.say(JSON.stringify({ id, result: { sessionId: 'S1' }, jsonrpc: '2.0' }));
    }
  }
  return sent;
}

test('only adaptive rooms say that they understand', async () => {
  for (const [options, expected] of [[{}, undefined], [{ adaptive: true }, true]]) {
    const { room } = await connected(options);
    room.connect();
    await settle();
    assert.equal(server.take('joinRoom').params.mediaEvents, expected);
  }
});

test('a picture is asked for as large as it is shown', async () => {
  const { stream } = await watching();
  assert.deepEqual(await wishes(), [], 'everything, which the server sends anyway');
  const video = new Video(320, 180);
  stream.observeVideo(video);
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 270 }]);
  resize(video, 640, 360);
  await tick(99);
  assert.deepEqual(await wishes(), []);
  await tick(1);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 540 }], 'soon when it grows');
  for (let width = 630; width > 320; width -= 10) {
    resize(video, width, width * 9 / 16);
    await tick(20);
  }
  assert.deepEqual(await wishes(), [], 'not for each pixel');
  await tick(1_500);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 300 }], 'late when it shrinks');
});

test('the shape of picture and screen counts', async () => {
  const { stream } = await watching();
  const check = async (change, maxHeight) => {
    const video = Object.assign(new Video(400, 400), { videoWidth: 1280, videoHeight: 720 }, change);
    globalThis.devicePixelRatio = change.ratio ?? 1;
    stream.observeVideo(video);
    await tick(2_000);
    assert.equal((await wishes()).at(-1).maxHeight, maxHeight);
    stream.unobserveVideo(video);
    assert.ok(!video.isWatched);
    await tick(2_000);
    await wishes();
  };
  await check({ fit: 'cover' }, 600);
  await check({ fit: 'contain' }, 360);
  await check({ fit: 'contain', ratio: 2 }, 690);
  await check({ fit: 'cover', videoWidth: 720, videoHeight: 1280 }, 1_080);
});

test('what is not seen is paused, and comes back at once', async () => {
  const { stream } = await watching();
  const [small, large] = [new Video(160, 90), new Video(1280, 720)];
  stream.observeVideo(small);
  stream.observeVideo(large);
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 1080 }], 'the largest of them');
  show(large, false);
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 150 }]);
  hidePage(true);
  await tick(1_000);
  hidePage(false);
  await tick(2_000);
  assert.deepEqual(await wishes(), [], 'a glance at something else');
  hidePage(true);
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', pauseVideo: true }]);
  hidePage(false);
  await tick(100);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 150 }]);
  hidePage(true);
  document.pictureInPictureElement = small;
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam' }], 'a window of its own');
});

test('wishes of the application join in', async () => {
  const { stream } = await watching();
  const video = new Video(640, 360);
  stream.observeVideo(video);
  await tick(2_000);
  await wishes();
  const told = stream.setPreferences({ maxHeight: 180, priority: 'high' });
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 180, priority: 'high' }]);
  await told;
  stream.setPreferences({ spatialLayer: 2 });
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', spatialLayer: 2 }], 'at any size');
  show(video, false);
  await tick(2_000);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', spatialLayer: 2, pauseVideo: true }]);
  assert.deepEqual(stream.getPreferences(), { spatialLayer: 2 });
});

test('one request at a time, and the last word counts', async () => {
  const { stream } = await watching({});
  stream.setPreferences({ spatialLayer: 0 });
  stream.setPreferences({ spatialLayer: 1 });
  stream.setPreferences({ spatialLayer: 2 });
  await settle();
  const [{ id, params }, ...others] = server.requests();
  assert.deepEqual([params.spatialLayer, others], [0, []]);
  await server.say(JSON.stringify({ id, result: {}, jsonrpc: '2.0' }));
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', spatialLayer: 2 }]);
});

test('wishes come back with the subscription', async () => {
  const { stream } = await watching({});
  stream.setPreferences({ pauseVideo: true });
  await wishes();
  stream.unsubscribe();
  await server.answer('unsubscribeFromVideo', {});
  stream.subscribe();
  await settle();
  await server.answer('receiveVideoFrom', ANSWER);
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', pauseVideo: true }]);
});

test('a server that knows nothing of it is not asked again', async () => {
  const { stream } = await watching({});
  const told = stream.setPreferences({ priority: 'low' });
  await settle();
  await server.refuse('setSubscription', -32601, 'Method not found: setSubscription');
  await assert.rejects(told, { code: -32601 });
  await stream.setPreferences({ priority: 'high' });
  assert.deepEqual(server.requests(), []);
});

test('a refused wish is not repeated until it changes', async () => {
  const { stream } = await watching({});
  const told = stream.setPreferences({ maxHeight: 0 });
  await settle();
  await server.refuse('setSubscription', 999, "'maxHeight' must be from 1 to 16384");
  await assert.rejects(told, { code: 999 });
  stream.setPreferences({ maxHeight: 90 });
  assert.deepEqual(await wishes(), [{ sender: 'bob_webcam', maxHeight: 90 }]);
});

test('video-delivery: which layer comes, or why none', async () => {
  const { stream, log } = await watching();
  assert.equal(stream.getVideoDelivery(), null);
  await server.notify('videoDelivery', {
    sender: 'bob_webcam', spatialLayer: 1, temporalLayer: 2, spatialLayers: 3, height: 360,
  });
  const delivery = { spatialLayer: 1, temporalLayer: 2, spatialLayers: 3, height: 360 };
  assert.deepEqual(log, [['video-delivery', { stream, delivery }]]);
  await server.notify('videoDelivery', { sender: 'bob_webcam', paused: 'bandwidth' });
  assert.deepEqual(stream.getVideoDelivery(), { paused: 'bandwidth' });
  await server.notify('videoDelivery', { sender: 'eve_webcam', paused: 'room' });
  assert.deepEqual(names(log), ['video-delivery', 'video-delivery']);
});

test('active-speakers: who has the floor, and who speaks', async () => {
  const { room, log } = await watching();
  await server.notify('activeSpeakers', { speaking: ['alice', 'nobody'] });
  await server.notify('activeSpeakers', { dominant: 'bob', speaking: [] });
  const { alice, bob } = room.getParticipants();
  assert.deepEqual(log, [
    ['active-speakers', { dominant: null, speaking: [alice] }],
    ['active-speakers', { dominant: bob, speaking: [] }],
  ]);
});

async function publishing(roomOptions, streamOptions) {
  const { kurento, room, log } = await joined([], roomOptions);
  const stream = kurento.Stream(room, { audio: true, video: true, ...streamOptions });
  stream.publish();
  await settle();
  const [, video] = FakePeerConnection.last.transceivers;
  return { room, stream, log, video };
}

test('layers are encoded while somebody watches them', async () => {
  const { stream, log, video } = await publishing({ adaptive: true }, {});
  assert.deepEqual(video.init.sendEncodings.map(({ rid }) => rid), ['q', 'h', 'f']);
  await server.answer('publishVideo', ANSWER);
  video.sender.encodings = video.init.sendEncodings.map((encoding) => ({ ...encoding, active: true }));
  const active = () => video.sender.encodings.filter((encoding) => encoding.active).map(({ rid }) => rid);
  const layers = (wanted) => ['q', 'h', 'f'].map((rid) => ({ rid, wanted: wanted.includes(rid) }));

  await server.notify('layersWanted', { layers: layers(['q', 'h']) });
  assert.deepEqual(active(), ['q', 'h']);
  assert.equal(log.at(-1)[0], 'layers-wanted');
  await server.notify('layersWanted', { layers: layers([]) });
  assert.deepEqual(active(), []);

  await server.notify('layersWanted', { layers: layers(['f']) });
  const track = video.sender.track;
  await stream.stopTrack('video');
  await server.notify('layersWanted', { layers: layers(['q', 'f']) });
  assert.deepEqual(active(), [], 'nothing while there is no picture');
  await stream.replaceTrack('video', track);
  assert.deepEqual(active(), ['q', 'f']);
});

test('simulcast is for adaptive rooms, unless the application says otherwise', async () => {
  const check = async (room, stream, expected) => {
    const { video } = await publishing(room, stream);
    assert.equal(Boolean(video.init.sendEncodings), expected);
  };
  await check({}, {}, false);
  await check({}, { simulcast: true }, true);
  await check({ adaptive: true }, {}, true);
  await check({ adaptive: true }, { simulcast: false }, false);
});

test('a server without simulcast gets the full picture', async () => {
  const { video } = await publishing({}, { simulcast: true });
  video.sender.encodings = [{ ...video.init.sendEncodings[0], active: true }];
  await server.answer('publishVideo', ANSWER);
  assert.equal(video.sender.encodings[0].scaleResolutionDownBy, 1);
});
