import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { ANSWER, BOB, installBrowser, joined, server } from './fakes.mjs';

/** As much of the DOM as a tile needs. */
class Node {
  children = [];
  style = {};
  srcObject = null;
  parent = null;

  constructor(tag) {
    this.tag = tag;
  }

  append(...nodes) {
    for (const node of nodes) {
      node.parent = this;
      this.children.push(node);
    }
  }

  remove() {
    if (!this.parent) return;
    this.parent.children = this.parent.children.filter((node) => node !== this);
    this.parent = null;
  }

  get isConnected() {
    return this.tag === 'body' || Boolean(this.parent?.isConnected);
  }

  find(id) {
    return this.id === id ? this : this.children.map((node) => node.find(id)).find(Boolean) ?? null;
  }
}

let body;

beforeEach(() => {
  installBrowser();
  body = new Node('body');
  globalThis.document = { createElement: (tag) => new Node(tag), getElementById: (id) => body.find(id) };
});

test('a thumbnail has the ids and classes applications style', async () => {
  const { room } = await joined([{ ...BOB, id: 'a very long_name' }]);
  const stream = room.getStreams()['a very long_name_webcam'];
  const video = stream.playThumbnail(body);
  const container = body.find('a very long_name_webcam');
  assert.equal(container.className, 'participant');
  const name = body.find('name-a very long_name_webcam');
  assert.deepEqual([name.className, name.title, name.textContent], ['name', 'a very long_name_webcam', 'a very long_name...']);
  assert.deepEqual([video.id, video.autoplay, video.controls, video.muted], ['native-video-a very long_name_webcam', true, false, false]);
  assert.ok(body.find('progress-a very long_name_webcam'), 'a spinner until there is media');
});

test('the spinner goes and the picture comes with the answer', async () => {
  const { room } = await joined([BOB]);
  const stream = room.getStreams().bob_webcam;
  const hidden = new Node('div');
  hidden.hidden = true;
  body.append(hidden);
  stream.playThumbnail(body);
  const video = stream.playOnlyVideo(body, hidden);
  await server.answer('receiveVideoFrom', ANSWER);
  assert.equal(video.srcObject, stream.getWrStream());
  assert.equal(body.find('progress-bob_webcam'), null);
  assert.equal(hidden.hidden, false);
  await server.notify('participantLeft', { name: 'bob' });
  assert.deepEqual(body.children, [hidden]);
  assert.equal(video.srcObject, null);
});

test('the own picture is muted and shown before it is published', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, {});
  await stream.init();
  const video = stream.playOnlyVideo(body, null);
  assert.equal(video.muted, true);
  assert.equal(video.srcObject, stream.getLocalMediaStream());
});

test('a video the application has removed is let go', async () => {
  const { kurento, room } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  const stream = room.getStreams().bob_webcam;
  const removed = stream.playOnlyVideo(body, null);
  removed.remove();
  kurento.disconnectParticipant(stream);
  await server.answer('unsubscribeFromVideo', {});
  const shown = stream.playOnlyVideo(body, null);
  stream.subscribe();
  await server.notify('participantJoined', { id: 'carol' });
  await server.answer('receiveVideoFrom', ANSWER);
  assert.equal(removed.srcObject, null);
  assert.equal(shown.srcObject, stream.getWrStream());
});
