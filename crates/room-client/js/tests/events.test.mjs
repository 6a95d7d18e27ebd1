// Every event of the room and its streams: when it comes and what it carries.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { KurentoRoom, Stream } from '../tertulia-room.js';
import {
  ANSWER, BOB, connected, devices, FakeMediaStream, FakePeerConnection, fakeTrack, installBrowser, joined, names, record, server, settle, tick,
} from './fakes.mjs';

beforeEach(installBrowser);

test('the callback gets the instance, with and without new', async () => {
  for (const construct of [(...args) => new KurentoRoom(...args), (...args) => KurentoRoom(...args)]) {
    const calls = [];
    const kurento = construct('wss://host/room', (...args) => calls.push(args), { heartbeat: 0 });
    assert.deepEqual(calls, []);
    await server.accept();
    assert.deepEqual(calls, [[null, kurento]]);
    assert.equal(await kurento.ready, kurento);
  }
});

test('the callback gets the error when there is no server', async () => {
  const calls = [];
  const kurento = KurentoRoom('wss://host/room', (...args) => calls.push(args));
  await server.drop();
  assert.equal(calls.length, 1);
  assert.equal(calls[0][0].code, 803);
  await assert.rejects(kurento.ready, { code: 803 });
});

test('room-connected: who was there, subscriptions already under way', async () => {
  const { room, log } = await connected();
  const result = room.connect();
  await server.answer('joinRoom', { value: [BOB, { id: 'carol' }] });
  const [name, payload] = log[0];
  assert.equal(name, 'room-connected');
  assert.deepEqual(payload.participants.map((participant) => participant.getID()), ['bob', 'carol']);
  assert.deepEqual(payload.streams.map((stream) => stream.getGlobalID()), ['bob_webcam']);
  assert.equal(await result, payload);
  assert.equal(server.take('receiveVideoFrom').params.sender, 'bob_webcam');
  assert.deepEqual(names(log), ['room-connected'], 'no stream-added for what is in it');
});

test('error-room: code and message of the server', async () => {
  const { room, log } = await connected();
  const result = room.connect();
  await server.refuse('joinRoom', 104, "User 'alice' already exists in room 'lab'");
  await assert.rejects(result, { code: 104 });
  assert.equal(log[0][0], 'error-room');
  assert.equal(log[0][1].error.code, 104);
  assert.equal(log[0][1].error.message, "User 'alice' already exists in room 'lab'");
  room.connect();
  server.take('joinRoom');
});

test('participant-joined, once per participant', async () => {
  const { room, log } = await joined();
  await server.notify('participantJoined', { id: 'bob' });
  await server.notify('participantJoined', { id: 'bob' });
  assert.deepEqual(names(log), ['participant-joined']);
  assert.equal(log[0][1].participant, room.getParticipants().bob);
});

test('participant-published, then stream-added, then stream-subscribed', async () => {
  const { log } = await joined([{ id: 'bob' }]);
  await server.notify('participantPublished', BOB);
  await server.answer('receiveVideoFrom', ANSWER);
  assert.deepEqual(names(log), ['participant-published', 'stream-added', 'stream-subscribed']);
  assert.equal(log[0][1].participant.getID(), 'bob');
  assert.equal(log[1][1].stream.getGlobalID(), 'bob_webcam');
  assert.equal(log[2][1].stream, log[1][1].stream);
});

test('a repeated participantPublished changes nothing', async () => {
  const { log } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  log.length = 0;
  await server.notify('participantPublished', BOB);
  assert.deepEqual(log, []);
  assert.deepEqual(server.requests(), []);
});

test('stream-added comes also without automatic subscription', async () => {
  const { room, log } = await joined([{ id: 'bob' }], { subscribeToStreams: false });
  await server.notify('participantPublished', BOB);
  assert.deepEqual(names(log), ['participant-published', 'stream-added']);
  assert.deepEqual(server.requests(), []);
  room.subscribe(log[1][1].stream);
  await settle();
  await server.answer('receiveVideoFrom', ANSWER);
  assert.equal(log.at(-1)[0], 'stream-subscribed');
});

test('participant-left and stream-removed, and everything is let go', async () => {
  const { room, log } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  log.length = 0;
  await server.notify('participantLeft', { name: 'bob' });
  assert.deepEqual(names(log), ['participant-left', 'stream-removed']);
  assert.equal(log[1][1].stream.getGlobalID(), 'bob_webcam');
  assert.ok(FakePeerConnection.last.closed);
  assert.deepEqual(Object.keys(room.getStreams()), []);
  await server.notify('participantLeft', { name: 'bob' });
  assert.equal(log.length, 2, 'somebody unknown leaving is no event');
});

test('an unpublished stream is reported in both ways by default, and its owner stays', async () => {
  const { room, log } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  log.length = 0;
  await server.notify('participantUnpublished', { name: 'bob' });
  assert.deepEqual(names(log), ['participant-unpublished', 'stream-unpublished', 'participant-left', 'stream-removed']);
  assert.ok(room.getParticipants().bob);
  log.length = 0;
  await server.notify('participantPublished', BOB);
  await server.answer('receiveVideoFrom', ANSWER);
  assert.deepEqual(names(log), ['participant-published', 'stream-added', 'stream-subscribed']);
});

test('an unpublished stream is no departure for applications that say so', async () => {
  const { log } = await joined([BOB], { legacyUnpublishAsLeft: false });
  log.length = 0;
  await server.notify('participantUnpublished', { name: 'bob' });
  assert.deepEqual(names(log), ['participant-unpublished', 'stream-unpublished']);
});

test('participant-evicted carries the local participant and ends the room', async () => {
  const { room, log } = await joined([BOB]);
  await server.notify('participantEvicted', {});
  assert.deepEqual(names(log), ['participant-evicted']);
  assert.equal(log[0][1].localParticipant, room.getLocalParticipant());
  assert.ok(FakePeerConnection.all.every((connection) => connection.closed));
});

test('room-closed carries the name, and the room can be joined again', async () => {
  const { room, log } = await joined([BOB]);
  await server.notify('roomClosed', { room: 'lab' });
  assert.deepEqual(log, [['room-closed', { room: 'lab' }]]);
  room.connect();
  await server.answer('joinRoom', { value: [] });
  assert.equal(log.at(-1)[0], 'room-connected');
});

test('newMessage, custom-message-received and error-media carry what was sent', async () => {
  const { log } = await joined();
  await server.notify('sendMessage', { room: 'lab', user: 'bob', message: '<b>hi</b>' });
  await server.notify('custonNotification', { MarkerFilterState: -1 });
  await server.notify('mediaError', { error: 'TEST_ERR: text(errCode=101)' });
  assert.deepEqual(log, [
    ['newMessage', { room: 'lab', user: 'bob', message: '<b>hi</b>' }],
    ['custom-message-received', { params: { MarkerFilterState: -1 } }],
    ['error-media', { error: 'TEST_ERR: text(errCode=101)' }],
  ]);
});

test('access-accepted and access-denied follow init', async () => {
  const { kurento, room } = await connected();
  const stream = kurento.Stream(room, { audio: true, video: true, data: false });
  const log = record(stream);
  await stream.init();
  assert.deepEqual(log, [['access-accepted']]);
  assert.equal(room.getStreams().alice_webcam, stream);

  const { getUserMedia } = devices;
  devices.getUserMedia = async () => {
    throw new DOMException('no', 'NotAllowedError');
  };
  const denied = kurento.Stream(room, {});
  const deniedLog = record(denied);
  await assert.rejects(denied.init(), { name: 'NotAllowedError' });
  assert.equal(deniedLog[0][0], 'access-denied');
  devices.getUserMedia = getUserMedia;
});

test('the default constraints, and what an application may ask for instead', async () => {
  const asked = [];
  const { getUserMedia } = devices;
  devices.getUserMedia = async (constraints) => {
    asked.push(constraints);
    return new FakeMediaStream();
  };
  const { kurento, room } = await connected();
  for (const options of [{}, { video: false }, { video: { width: 320 } }, { constraints: { audio: false, video: true } }, { audio: false, video: false }]) {
    await kurento.Stream(room, options).init();
  }
  devices.getUserMedia = getUserMedia;
  assert.deepEqual(asked, [
    { audio: true, video: { width: { ideal: 1280 }, frameRate: { ideal: 15 } } },
    { audio: true, video: false },
    { audio: true, video: { width: 320 } },
    { audio: false, video: true },
  ]);
});

test('who wants no media needs no devices', async () => {
  const { kurento, room } = await connected();
  Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
  await kurento.Stream(room, { audio: false, video: false }).init();
  await assert.rejects(kurento.Stream(room, {}).init(), { name: 'NotSupportedError' });
});

test('stream-published, and with loopback stream-subscribed for the own stream', async () => {
  const { kurento, room, log } = await joined();
  const stream = kurento.Stream(room, {});
  stream.subscribeToMyRemote();
  const published = stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  await published;
  assert.deepEqual(log, [['stream-published', { stream }], ['stream-subscribed', { stream }]]);
  assert.deepEqual(FakePeerConnection.last.transceivers.map(({ direction }) => direction), ['sendrecv', 'sendrecv']);
  assert.equal(stream.getWrStream(), stream.getWebRtcPeer().remoteStream);
});

test('error-publish and error-subscribe carry stream and error', async () => {
  const { kurento, room, log } = await joined([BOB]);
  await server.refuse('receiveVideoFrom', 105, "User 'bob not streaming media in room 'lab'");
  const stream = kurento.Stream(room, {});
  const published = stream.publish();
  await settle();
  await server.refuse('publishVideo', 302, 'Error generating SDP response for publishing user alice');
  await assert.rejects(published, { code: 302 });
  assert.deepEqual(names(log), ['error-subscribe', 'error-publish']);
  assert.equal(log[0][1].stream.getGlobalID(), 'bob_webcam');
  assert.equal(log[0][1].error.code, 105);
  assert.equal(log[1][1].stream, stream);
});

test('an answer the browser refuses is undone at the server', async () => {
  const { log } = await joined([BOB]);
  await server.answer('receiveVideoFrom', { sdpAnswer: 'bad' });
  assert.deepEqual(names(log), ['error-subscribe']);
  assert.deepEqual(server.requests().map(({ method }) => method), ['unsubscribeFromVideo']);
});

test('own stream-unpublished, and publishing again works', async () => {
  const { kurento, room, log } = await joined();
  const stream = kurento.Stream(room, {});
  for (let round = 0; round < 2; round += 1) {
    log.length = 0;
    stream.publish();
    await settle();
    await server.answer('publishVideo', ANSWER);
    const connection = FakePeerConnection.last;
    const tracks = stream.getLocalMediaStream().getTracks();
    const done = kurento.disconnectParticipant(stream);
    await server.answer('unpublishVideo', {});
    await done;
    assert.deepEqual(names(log), ['stream-published', 'stream-unpublished']);
    assert.ok(connection.closed);
    assert.ok(tracks.every(({ stopped }) => stopped), 'the camera is off');
    await server.notify('iceCandidate', { endpointName: 'alice', candidate: 'c', sdpMid: '0', sdpMLineIndex: 0 });
  }
});

test('publishing twice makes one peer connection', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, {});
  stream.publish();
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  await stream.publish();
  assert.equal(FakePeerConnection.all.length, 1);
  assert.deepEqual(server.requests(), []);
});

test('unpublishing while it is being published wins, and publishing after that wins over it', async () => {
  const { kurento, room, log } = await joined();
  const stream = kurento.Stream(room, {});
  const first = assert.rejects(stream.publish(), { name: 'AbortError' });
  await settle();
  stream.unpublish();
  await server.answer('publishVideo', ANSWER);
  await first;
  await server.answer('unpublishVideo', {});
  assert.deepEqual(names(log), ['stream-unpublished']);

  stream.publish();
  await settle();
  stream.unpublish();
  const last = stream.publish();
  await server.answer('publishVideo', ANSWER);
  await server.answer('unpublishVideo', {});
  await server.answer('publishVideo', ANSWER);
  await last;
  assert.equal(FakePeerConnection.all.filter(({ closed }) => !closed).length, 1);
});

test('an unsubscribed stream can be subscribed again', async () => {
  const { kurento, room } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  const stream = room.getStreams().bob_webcam;
  kurento.disconnectParticipant(stream);
  await server.answer('unsubscribeFromVideo', {});
  assert.ok(FakePeerConnection.last.closed);
  const again = stream.subscribe();
  await settle();
  await server.answer('receiveVideoFrom', ANSWER);
  await again;
});

test('ice-state-changed, and a failed connection is made anew three times', async () => {
  const { log } = await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  FakePeerConnection.last.become('connected');
  const waits = [500, 2_000, 5_000];
  for (const wait of waits) {
    log.length = 0;
    FakePeerConnection.last.become('failed');
    assert.equal(log[0][0], 'ice-state-changed');
    assert.equal(log[0][1].state, 'failed');
    await tick(wait);
    await server.answer('unsubscribeFromVideo', {});
    await server.answer('receiveVideoFrom', ANSWER);
    assert.equal(log.at(-1)[0], 'stream-subscribed');
  }
  log.length = 0;
  FakePeerConnection.last.become('failed');
  await tick(60_000);
  assert.ok(names(log).includes('error-subscribe'));
  assert.deepEqual(server.requests().map(({ method }) => method), ['unsubscribeFromVideo']);
});

test('a connection that lived for long gets all its attempts back', async () => {
  await joined([BOB]);
  await server.answer('receiveVideoFrom', ANSWER);
  for (let failure = 0; failure < 5; failure += 1) {
    FakePeerConnection.last.become('connected');
    await tick(31_000);
    FakePeerConnection.last.become('failed');
    await tick(500);
    await server.answer('unsubscribeFromVideo', {});
    await server.answer('receiveVideoFrom', ANSWER);
  }
});

test('a failed publication is published again with the same media', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, {});
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  const media = stream.getLocalMediaStream();
  FakePeerConnection.last.become('failed');
  await tick(500);
  await server.answer('unpublishVideo', {});
  await server.answer('publishVideo', ANSWER);
  assert.equal(stream.getLocalMediaStream(), media);
});

test('data-channel-message comes from publishers, if the room was joined with data channels', async () => {
  const { log } = await joined([BOB], { dataChannels: true });
  await server.answer('receiveVideoFrom', ANSWER);
  const [channel] = FakePeerConnection.last.channels;
  assert.equal(channel.label, 'bob_webcam_0');
  channel.onmessage({ data: 'hi' });
  FakePeerConnection.last.ondatachannel({ channel: { label: 'other', onmessage: null } });
  const [name, payload] = log.at(-1);
  assert.equal(name, 'data-channel-message');
  assert.deepEqual([payload.stream.getGlobalID(), payload.data, payload.label], ['bob_webcam', 'hi', 'bob_webcam_0']);
});

test('without data channels none are offered', async () => {
  await joined([BOB]);
  assert.deepEqual(FakePeerConnection.last.channels, []);
});

test('sendData says why it cannot', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, { data: true });
  assert.throws(() => stream.sendData('x'), { message: 'WebRTC peer has not been created yet' });
  stream.publish();
  await settle();
  assert.throws(() => stream.sendData('x'), { message: 'Data channel is not opened' });
  const [channel] = FakePeerConnection.last.channels;
  assert.equal(channel.label, 'alice_webcam_0');
  channel.readyState = 'open';
  stream.sendData('x');
  assert.deepEqual(channel.sent, ['x']);
});

test('speaking: events with the global id, and the last speaker is the main one', async () => {
  const analysers = [];
  globalThis.AudioContext = class {
    state = 'running';

    createAnalyser() {
      const analyser = { frequencyBinCount: 256, level: -100, getFloatFrequencyData: (bins) => bins.fill(analyser.level) };
      analysers.push(analyser);
      return analyser;
    }

    createMediaStreamSource() {
      return { connect() {}, disconnect() {} };
    }
  };
  const { log } = await joined([BOB, { id: 'carol', streams: [{ id: 'webcam' }] }], { updateSpeakerInterval: 1_000, thresholdSpeaker: -40 });
  await server.answer('receiveVideoFrom', ANSWER);
  await server.answer('receiveVideoFrom', ANSWER);
  log.length = 0;
  analysers[0].level = -45;
  await tick(1_000);
  assert.deepEqual(log, [], 'below the threshold');
  analysers[0].level = -30;
  await tick(150);
  analysers[1].level = -30;
  await tick(150);
  assert.deepEqual(log, [
    ['stream-speaking', { participantId: 'bob_webcam' }],
    ['stream-speaking', { participantId: 'carol_webcam' }],
  ]);
  log.length = 0;
  await tick(850);
  assert.deepEqual(log, [['update-main-speaker', { participantId: 'carol_webcam' }]]);
  log.length = 0;
  await server.notify('participantLeft', { name: 'carol' });
  assert.deepEqual(names(log), ['participant-left', 'stream-removed', 'stream-stopped-speaking']);
  log.length = 0;
  await tick(1_000);
  assert.deepEqual(log, [['update-main-speaker', { participantId: 'bob_webcam' }]]);
  analysers[0].level = -100;
  await tick(500);
  assert.equal(log.at(-1)[0], 'stream-stopped-speaking');
  log.length = 0;
  await tick(10_000);
  assert.deepEqual(log, [], 'silence has no main speaker');
  delete globalThis.AudioContext;
});

test('candidates without a peer connection are kept, and unknown ones dropped', async () => {
  const { room } = await joined([BOB], { subscribeToStreams: false });
  await server.notify('iceCandidate', { endpointName: 'bob', candidate: 'early', sdpMid: '0', sdpMLineIndex: 0 });
  await server.notify('iceCandidate', { endpointName: 'nobody', candidate: 'x', sdpMid: '0', sdpMLineIndex: 0 });
  room.getStreams().bob_webcam.subscribe();
  await settle();
  await server.answer('receiveVideoFrom', ANSWER);
  assert.deepEqual(FakePeerConnection.last.candidates.map(({ candidate }) => candidate), ['early']);
});

test('a track is replaced without signalling, and the captured one before it is stopped', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, {});
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  const camera = stream.getLocalMediaStream().getTracks().find(({ kind }) => kind === 'video');
  await stream.stopTrack('video');
  assert.ok(camera.stopped);
  const sender = FakePeerConnection.last.transceivers[1].sender;
  assert.equal(sender.track, null);
  assert.deepEqual(sender.encodings, [{ active: false }]);
  const other = await stream.startTrack('video');
  assert.equal(sender.track, other);
  assert.deepEqual(sender.encodings, [{ active: true }]);
  assert.deepEqual(server.requests(), []);
});

test('a kind that was never negotiated is published anew', async () => {
  const { kurento, room } = await joined();
  const stream = kurento.Stream(room, { video: false });
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  const started = stream.startTrack('video');
  await settle();
  await server.answer('unpublishVideo', {});
  await server.answer('publishVideo', ANSWER);
  await started;
  assert.deepEqual(FakePeerConnection.last.transceivers.map(({ receiver }) => receiver.track.kind), ['audio', 'video']);
});

test('media of the application is published and never stopped', async () => {
  const { kurento, room } = await joined();
  const mediaStream = new FakeMediaStream([fakeTrack('video')]);
  const stream = kurento.Stream(room, { mediaStream });
  stream.publish();
  await settle();
  await server.answer('publishVideo', ANSWER);
  assert.equal(FakePeerConnection.last.transceivers.length, 1);
  stream.unpublish();
  assert.equal(mediaStream.getTracks()[0].stopped, false);
});

test('a listener that throws does not stop the others', async (t) => {
  t.mock.method(console, 'error', () => {});
  const { room } = await joined();
  let heard = 0;
  const listener = () => {
    heard += 1;
  };
  room.addEventListener('newMessage', () => {
    throw new Error('mine');
  });
  room.addEventListener('newMessage', listener);
  room.once('newMessage', listener);
  await server.notify('sendMessage', { room: 'lab', user: 'bob', message: '1' });
  await server.notify('sendMessage', { room: 'lab', user: 'bob', message: '2' });
  room.removeEventListener('newMessage', listener);
  await server.notify('sendMessage', { room: 'lab', user: 'bob', message: '3' });
  assert.equal(heard, 3);
});

test('close leaves first, and closes when that is answered or refused', async () => {
  for (const finish of [() => server.answer('leaveRoom', {}), () => server.refuse('leaveRoom', 203, 'closing')]) {
    const { kurento, log } = await joined([BOB]);
    const closed = kurento.close();
    assert.equal(server.socket.closed, false);
    await finish();
    await closed;
    assert.ok(server.socket.closed);
    await server.drop();
    await tick(600_000);
    assert.deepEqual(log, []);
  }
});

test('a forced close only closes', async () => {
  const { kurento } = await joined();
  await kurento.close(true);
  assert.ok(server.socket.closed);
  assert.deepEqual(server.requests(), []);
});

test('names that are also members of objects are names', async () => {
  const people = ['constructor', '__proto__', 'toString'];
  const { room } = await joined(people.slice(0, 1).map((id) => ({ id })));
  for (const id of people.slice(1)) await server.notify('participantJoined', JSON.parse(`{"id":"${id}"}`));
  for (const id of people) assert.equal(room.getParticipants()[id].getID(), id);
});

test('global ids', async () => {
  const { kurento, room } = await connected();
  assert.equal(kurento.Stream(room, {}).getGlobalID(), 'alice_webcam');
  assert.equal(kurento.Stream(room, { id: 'localStream' }).getGlobalID(), 'alice_localStream');
  assert.equal(new Stream(kurento, true, room, {}).getGlobalID(), 'webcam_webcam');
});
