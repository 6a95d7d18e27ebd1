// The way through the page: form, call, and back.

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
let call = null;
/** What was chosen for it: `{name, room, media, loopback}`. */
let choice = null;

window.tertulia = { KurentoRoom, kurento: null, room: null, stream: null, data: [] };

/** `isBack`: this page has just been in the room. */
async function join({ isBack = false, ...chosen }) {
  const { name, room: roomName, media, loopback } = chosen;
  login.busy(true);
  banner('');
  let kurento;
  try {
    kurento = await KurentoRoom(socketAddress(), null).ready;
    const room = kurento.Room({
      room: roomName,
      user: name,
      updateSpeakerInterval: await rest('getUpdateSpeakerInterval', SPEAKER_INTERVAL_MS),
      thresholdSpeaker: await rest('getThresholdSpeaker', SPEAKER_THRESHOLD_DB),
      dataChannels: parameters.data,
      adaptive: parameters.adaptive,
      legacyUnpublishAsLeft: false,
    });
    const stream = await capture(kurento, room, media);
    if (!stream) {
      kurento.close(true);
      login.busy(false);
      return;
    }
    if (loopback) stream.subscribeToMyRemote();
    Object.assign(window.tertulia, { kurento, room, stream });
    call = new Call({ kurento, room, stream, loopback, parameters, onend: leave, onagain: rejoin });
    await enter(room, isBack);
  } catch (error) {
    call?.dispose();
    call = null;
    kurento?.close(true);
    login.busy(false);
    login.problem(error.code === 104 ? 'name' : 'form', explain(error));
    return;
  }
  choice = chosen;
  remember(choice);
  login.hide();
  call.show();
  if (location.hash !== callHash(roomName)) history.pushState(null, '', callHash(roomName));
}

async function enter(room, isBack) {
  for (let retries = 0; ; retries += 1) {
    try {
      return await room.connect();
    } catch (error) {
      if (!isBack || error.code !== 104 || retries >= NAME_RETRIES_MAX) throw error;
      await new Promise((resolve) => setTimeout(resolve, NAME_RETRY_INTERVAL_MS));
    }
  }
}

/** Resolves with a stream that has its media, or null if the user would rather not join. */
async function capture(kurento, room, media) {
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
      stream.dispose();
      stream.getParticipant().removeStream(stream);
      const choices = [['again', 'Try again'], ['none', 'Just watch'], ['', 'Cancel']];
      if (wanted === 'both' && await mayHaveMicrophone()) choices.unshift(['audio', 'Join with audio only']);
      else if (error.name === 'NotFoundError') choices.splice(0, 2, choices[1], choices[0]);
      const choice = await ask('No camera or microphone', explain(error), choices);
      if (choice === '') return null;
      if (choice !== 'again') wanted = choice;
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

/** Back to the form; with a `title`, after the user has read why. */
async function leave(title, text) {
  if (!call) return;
  const { room } = window.tertulia;
  choice = { ...choice, media: call.media };
  forget();
  call.dispose();
  call = null;
  banner('');
  window.tertulia.kurento.close(title !== undefined);
  Object.assign(window.tertulia, { kurento: null, room: null, stream: null });
  if (isCallHash()) history.replaceState(null, '', `#/rooms/${encodeURIComponent(room.name)}`);
  login.show();
  if (title === undefined) return;
  if (await ask(title, text, [['again', 'Join again'], ['', 'Close']]) === 'again') join({ ...choice, isBack: true });
}

/** Leaves and joins again: what is broken is made anew. */
function rejoin() {
  leave();
  join({ ...choice, isBack: true });
}

function socketAddress() {
  const address = resource('room');
  address.protocol = address.protocol === 'http:' ? 'ws:' : 'wss:';
  return address.href;
}

window.addEventListener('hashchange', () => {
  if (!isCallHash()) leave();
  const room = roomOfHash();
  if (room && !call) login.fill({ room });
});
window.addEventListener('pagehide', () => {
  // A microphone that is off stays off.
  if (call && choice) remember({ ...choice, media: call.media });
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
  if (isCallHash()) history.replaceState(null, '', `#/rooms/${encodeURIComponent(parameters.room)}`);
  if (parameters.join) login.submit();
}
