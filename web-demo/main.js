// The way through the page: form, call, and back.

import { backOff } from './js/rpc.js';
import { KurentoRoom } from './js/tertulia-room.js';
import { Call } from './call.js';
import { Login } from './login.js';
import { ask, banner, explain } from './notices.js';
import { forget, recall, remember } from './memory.js';
import { dress, resource, rest } from './page.js';
import { callHash, isCallHash, readParameters, roomOfHash } from './parameters.js';

/** What the server says if it has no such page. */
const SPEAKER_INTERVAL_MS = 1_800;
const SPEAKER_THRESHOLD_DB = -50;

/** Who comes back may find the own name still taken, for as long as the server waits for a lost page. */
const NAME_RETRY_INTERVAL_MS = 2_000;
const NAME_RETRIES_MAX = 6;

/** Too short: a banner flickers on slow networks. Too long: nothing seems to happen. */
const WAIT_UNTOLD_MS = 2_000;

const NO_ANSWER = 'The server does not answer. Still trying…';

/** Buttons that always look the same. */
const ICONS = {
  buttonLink: 'link',
  buttonPeople: 'people',
  buttonChat: 'chat',
  buttonStatistics: 'statistics',
  buttonSettings: 'settings',
  buttonFullScreen: 'full-screen',
  buttonSend: 'send',
  buttonLeaveRoom: 'leave',
};

const parameters = readParameters();
const login = new Login(join);
/** From the attempt to join until the call is over; aborted by whatever ends it. */
let stay = null;
/** From when there are media to join with. */
let call = null;
/** What was chosen last: `{name, room, media, loopback}`. */
let choice = null;

window.tertulia = { KurentoRoom, kurento: null, room: null, stream: null, data: [] };

/** `isBack`: this page has just been in the room. */
async function join({ isBack = false, ...chosen }) {
  end(true);
  choice = chosen;
  stay = new AbortController();
  const { signal } = stay;
  const { name, room: roomName, media, loopback } = chosen;
  login.busy(true);
  let kurento;
  try {
    kurento = await reach(isBack, signal);
    signal.throwIfAborted();
    window.tertulia.kurento = kurento;
    const [updateSpeakerInterval, thresholdSpeaker] = await patiently(Promise.all([
      rest('getUpdateSpeakerInterval', SPEAKER_INTERVAL_MS),
      rest('getThresholdSpeaker', SPEAKER_THRESHOLD_DB),
    ]), NO_ANSWER, signal);
    signal.throwIfAborted();
    banner('');
    const room = kurento.Room({
      room: roomName,
      user: name,
      updateSpeakerInterval,
      thresholdSpeaker,
      dataChannels: parameters.data,
      adaptive: parameters.adaptive,
      legacyUnpublishAsLeft: false,
    });
    const stream = await capture(kurento, room, media, signal);
    signal.throwIfAborted();
    if (!stream) {
      leave();
      return;
    }
    if (loopback) stream.subscribeToMyRemote();
    Object.assign(window.tertulia, { room, stream });
    call = new Call({ kurento, room, stream, loopback, parameters, onend: leave, onagain: rejoin });
    await enter(room, isBack, signal);
    signal.throwIfAborted();
  } catch (error) {
    if (signal.aborted) {
      // Whoever ended it has cleared the page, and may have joined again.
      kurento?.close(true);
      return;
    }
    end(true);
    login.busy(false);
    login.problem(error.code === 104 ? 'name' : 'form', explain(error));
    return;
  }
  remember(choice);
  login.hide();
  call.show();
  if (location.hash !== callHash(roomName)) history.pushState(null, '', callHash(roomName));
}

/** Resolves with a connection. Who has just been in the room waits for a server that is being restarted. */
async function reach(isBack, signal) {
  const text = 'The server cannot be reached. Trying again…';
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await patiently(KurentoRoom(socketAddress(), null).ready, text, signal);
    } catch (error) {
      if (!isBack) throw error;
      tellOfWaiting(text, signal);
      await pause(backOff(attempt, Math.random()));
      signal.throwIfAborted();
    }
  }
}

async function enter(room, isBack, signal) {
  for (let retries = 0; ; retries += 1) {
    try {
      return await patiently(room.connect(), NO_ANSWER, signal);
    } catch (error) {
      if (!isBack || error.code !== 104 || retries >= NAME_RETRIES_MAX) throw error;
      tellOfWaiting('Your name is still taken by your former connection. Waiting until it ends…', signal);
      await pause(NAME_RETRY_INTERVAL_MS);
      signal.throwIfAborted();
    }
  }
}

/** Settles as the promise does; a user who waits long is told for what. */
async function patiently(promise, text, signal) {
  const timer = setTimeout(() => tellOfWaiting(text, signal), WAIT_UNTOLD_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function tellOfWaiting(text, signal) {
  if (!signal.aborted) banner(text, 'Cancel', () => leave());
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Resolves with a stream that has its media, or null if the user would rather not join. */
async function capture(kurento, room, media, signal) {
  for (let wanted = media; ;) {
    const stream = kurento.Stream(room, {
      audio: wanted === 'both' || wanted === 'audio',
      video: (wanted === 'both' || wanted === 'video') && cameraConstraints(),
      data: parameters.data,
      codec: parameters.codec,
      simulcast: parameters.simulcast,
    });
    try {
      await stream.init();
      return stream;
    } catch (error) {
      signal.throwIfAborted();
      stream.dispose();
      stream.getParticipant().removeStream(stream);
      const choices = [['again', 'Try again'], ['none', 'Just watch'], ['', 'Cancel']];
      const mayBeHeard = wanted === 'both' && await mayHaveMicrophone();
      signal.throwIfAborted();
      if (mayBeHeard) choices.unshift(['audio', 'Join with audio only']);
      else if (error.name === 'NotFoundError') choices.splice(0, 2, choices[1], choices[0]);
      const answer = await ask('No camera or microphone', explain(error), choices, signal);
      if (answer === '') return null;
      if (answer !== 'again') wanted = answer;
    }
  }
}

async function mayHaveMicrophone() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => null);
  return devices?.some(({ kind }) => kind === 'audioinput') ?? false;
}

function cameraConstraints() {
  const { video } = parameters;
  return video ? { width: { ideal: video.width }, height: { ideal: video.height }, frameRate: { ideal: 15 } } : true;
}

/** Lets go of the call, or of the attempt to join; `forced`: without telling the server. */
function end(forced) {
  stay?.abort();
  stay = null;
  // What was turned off stays off.
  if (call) choice = { ...choice, media: call.media };
  call?.dispose();
  call = null;
  banner('');
  window.tertulia.kurento?.close(forced);
  Object.assign(window.tertulia, { kurento: null, room: null, stream: null });
}

/** Back to the form; with a `title`, after the user has read why. */
async function leave(title, text) {
  if (!stay) return;
  end(title !== undefined);
  forget();
  showRoomOnly();
  login.show();
  if (title === undefined) return;
  if (await ask(title, text, [['again', 'Join again'], ['', 'Close']]) === 'again') join({ ...choice, isBack: true });
}

/** Leaves and joins again: what is broken is made anew. */
function rejoin() {
  leave();
  join({ ...choice, isBack: true });
}

/** The address is no call any more, or never was one of this tab. */
function showRoomOnly() {
  if (isCallHash()) history.replaceState(null, '', `#/rooms/${encodeURIComponent(roomOfHash())}`);
}

function socketAddress() {
  const address = resource('room');
  address.protocol = address.protocol === 'http:' ? 'ws:' : 'wss:';
  return address.href;
}

window.addEventListener('hashchange', () => {
  if (!isCallHash() || roomOfHash() !== choice?.room) leave();
  const room = roomOfHash();
  if (room && !stay) login.fill({ room });
});
window.addEventListener('pagehide', () => {
  // A microphone that is off stays off. A call that was never joined is none to come back to.
  if (call && location.hash === callHash(choice.room)) remember({ ...choice, media: call.media });
  window.tertulia.kurento?.close();
});

for (const [id, name] of Object.entries(ICONS)) dress(document.getElementById(id), name);
for (const button of document.querySelectorAll('.panel .close')) dress(button, 'close');
login.fill(parameters);
login.show();
const former = isCallHash() ? recall(parameters.room) : null;
if (former) {
  login.fill({ ...former, media: former.media === 'video' ? 'both' : former.media });
  join({ ...former, isBack: true });
} else {
  // Somebody else's call: its room is in the form.
  showRoomOnly();
  if (parameters.join) login.submit();
}
