// A room on the page: buttons, tiles and panels follow the room's events.

import { SpeakingDetector } from './js/tertulia-room.js';
import { Chat } from './chat.js';
import { Devices } from './devices.js';
import { banner, explain, explainInterruption, explainMediaError, explainMediaFailure, notify } from './notices.js';
import { byId, dress, roomLink } from './page.js';
import { showPeople } from './people.js';
import { Statistics } from './statistics.js';
import { dressLayoutButton, Tiles } from './tiles.js';

const PANELS = { buttonPeople: 'people', buttonChat: 'effect', buttonStatistics: 'statistics' };

export class Call {
  #kurento;
  #room;
  #stream;
  #loopback;
  #parameters;
  #onend;
  #tiles;
  #chat;
  #devices;
  #statistics;
  #listening = new AbortController();
  #published = false;
  /** The screen's track while it is shown instead of the camera. */
  #screen = null;
  #cameraBeforeScreen = false;
  /** The browser asks the user which screen. */
  #choosingScreen = false;
  #ownDetector = null;
  #watchedTrack = null;
  #busy = new Set();
  #ended = false;
  /** Before that, the banner is about joining. */
  #isShown = false;
  /** The server tells who speaks, and hears more than this page. */
  #serverHears = false;
  /** What the banner could say, the most urgent first: `[text, actionLabel, action]` or null. */
  #banners = { connection: null, failure: null, interruption: null, sound: null };
  /** What has failed, by stream, the last at the end; null for what concerns no certain one. */
  #failures = new Map();
  /** Streams whose media connection is interrupted. */
  #interrupted = new Set();
  /** Why the room is about to be closed, if the server has said. */
  #closingReason = null;
  #onagain;

  /**
   * `onend(title?, text?)`: the call is over; a title tells why, if it was not the user.
   * `onagain()`: the user wants to leave and to join again.
   */
  constructor({ kurento, room, stream, loopback, parameters, onend, onagain }) {
    this.#kurento = kurento;
    this.#room = room;
    this.#stream = stream;
    this.#loopback = loopback;
    this.#parameters = parameters;
    this.#onend = onend;
    this.#onagain = onagain;
    const { signal } = this.#listening;
    this.#tiles = new Tiles({
      onselected: () => this.#update(),
      onblocked: (resume) => this.#setBanner('sound', 'Your browser waits for a click before it plays sound.', 'Turn on the sound', () => {
        this.#setBanner('sound', null);
        resume();
      }),
    });
    this.#chat = new Chat(room.user, (text) => kurento.sendMessage(room.name, room.user, text), signal);
    this.#devices = new Devices((kind, deviceId) => this.#changeDevice(kind, deviceId), signal);
    this.#statistics = new Statistics(() => Object.values(room.getStreams()).filter((each) => each.getWebRtcPeer()));
    this.#bindRoom();
    this.#bindButtons(signal);
  }

  /** What is sent besides a screen: `both`, `audio`, `video` or `none`. */
  get media() {
    const camera = this.#screen ? this.#cameraBeforeScreen : this.#has('video');
    if (this.#has('audio')) return camera ? 'both' : 'audio';
    return camera ? 'video' : 'none';
  }

  show() {
    byId('room').hidden = false;
    byId('room-name').textContent = this.#room.name;
    document.title = `${this.#room.name} – Tertulia`;
    this.#isShown = true;
    this.#showBanner();
    this.#update();
    byId('buttonVolume').focus();
  }

  dispose() {
    this.#ended = true;
    this.#isShown = false;
    this.#listening.abort();
    this.#statistics.stop();
    this.#ownDetector?.stop();
    this.#screen?.stop();
    this.#tiles.dispose();
    for (const button of Object.keys(PANELS)) this.#openPanel(button, false);
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    byId('settings').close();
    byId('room').hidden = true;
  }

  // What the room tells.

  #bindRoom() {
    const on = (name, handler) => this.#room.addEventListener(name, (event) => {
      if (!this.#ended) handler(event);
    });
    on('room-connected', ({ streams }) => {
      for (const stream of streams) this.#tiles.add(stream);
      if (this.#stream.getLocalMediaStream()?.getTracks().length > 0) this.#publish();
      this.#update();
    });
    on('participant-joined', ({ participant }) => {
      notify(`${participant.getID()} has joined.`);
      this.#update();
    });
    on('participant-left', ({ participant }) => {
      notify(`${participant.getID()} has left.`);
      this.#update();
    });
    on('stream-added', ({ stream }) => {
      this.#tiles.add(stream);
      this.#update();
    });
    on('stream-removed', ({ stream }) => {
      this.#removeTile(stream);
      this.#mediaWork(stream);
    });
    on('stream-unpublished', ({ stream }) => {
      if (stream === this.#stream) this.#published = false;
      else this.#mediaWork(stream);
      this.#removeTile(stream);
    });
    on('stream-published', () => {
      this.#published = true;
      this.#mediaWork(this.#stream);
      if (!this.#tiles.has(this.#stream)) this.#tiles.add(this.#stream, { mirrored: this.#isMirrored() });
      this.#update();
    });
    on('stream-subscribed', ({ stream }) => {
      this.#tiles.setState(stream, '');
      this.#mediaWork(stream);
    });
    on('stream-speaking', ({ participantId }) => this.#setSpeaking(participantId, true));
    on('stream-stopped-speaking', ({ participantId }) => this.#setSpeaking(participantId, false));
    on('update-main-speaker', ({ participantId }) => {
      if (this.#isSpeakerLayout() && !this.#serverHears) this.#tiles.selectId(participantId);
    });
    on('active-speakers', ({ dominant, speaking }) => {
      this.#serverHears = true;
      const gids = (participant) => Object.values(participant.getStreams()).map((stream) => stream.getGlobalID());
      this.#tiles.showSpeaking(new Set(speaking.flatMap(gids)));
      if (dominant && dominant !== this.#room.getLocalParticipant() && this.#isSpeakerLayout()) {
        for (const gid of gids(dominant)) this.#tiles.selectId(gid);
      }
    });
    on('video-delivery', ({ stream, delivery }) => this.#tiles.setDelivery(stream, delivery));
    on('newMessage', (message) => {
      this.#chat.add(message);
      if (message.user === this.#room.user || !byId('effect').hidden) return;
      byId('buttonChat').classList.add('unread');
      notify(`${message.user}: ${message.message}`);
    });
    on('ice-state-changed', ({ stream, state }) => {
      const texts = { checking: 'Connecting…', disconnected: 'Interrupted…', failed: 'Connecting again…' };
      this.#tiles.setState(stream, texts[state] ?? '');
      if (state === 'disconnected' || state === 'failed') this.#interrupted.add(stream);
      else if (state !== 'new' && state !== 'checking') this.#interrupted.delete(stream);
      this.#tellInterruption();
    });
    on('reconnecting', () => this.#setBanner('connection', 'The connection is interrupted. Connecting again…'));
    on('reconnected', ({ resumed }) => {
      this.#setBanner('connection', null);
      notify(resumed ? 'The connection is back.' : 'You are in the room again.');
      this.#update();
    });
    on('error-publish', ({ error }) => {
      this.#published = false;
      this.#mediaFailed(`You cannot be seen or heard. ${explainMediaFailure(error)}`, this.#stream);
      this.#update();
    });
    on('error-subscribe', ({ stream, error }) => {
      const text = `${stream.getParticipant().getID()} cannot be shown. ${explainMediaFailure(error)}`;
      // Who has just stopped publishing is no failure.
      if (error.code === 105) notify(text);
      else this.#mediaFailed(text, stream);
      this.#removeTile(stream);
    });
    on('error-media', ({ error }) => {
      const { title, text, closes } = explainMediaError(error);
      if (closes) this.#closingReason = { title, text };
      this.#mediaFailed(`${title}. ${text}`);
    });
    on('data-channel-message', ({ stream, data }) => {
      window.tertulia.data.push({ from: stream.getParticipant().getID(), data });
    });
    on('participant-evicted', () => this.#onend('You were removed', 'Somebody has ended your stay in this room.'));
    on('room-closed', () => {
      const { title, text } = this.#closingReason ?? { title: 'The room was closed', text: 'It has been closed for everybody.' };
      this.#onend(title, text);
    });
    on('lost-connection', () => this.#onend('The connection is lost', 'The server could not be reached again. Look whether your network works, then join again.'));
    this.#stream.addEventListener('track-ended', ({ track }) => {
      if (!this.#ended && track.kind) this.#lostDevice(track);
    });
  }

  /** In place of what was said of it before; without a text it has nothing to say. */
  #setBanner(subject, text, ...action) {
    this.#banners[subject] = text ? [text, ...action] : null;
    this.#showBanner();
  }

  #showBanner() {
    if (!this.#isShown) return;
    const shown = Object.values(this.#banners).find((each) => each !== null);
    banner(...(shown ?? ['']));
  }

  /** Frozen pictures look like people who sit still. */
  #tellInterruption() {
    if (this.#interrupted.size === 0) {
      this.#setBanner('interruption', null);
      return;
    }
    const others = [...this.#interrupted].filter((stream) => stream !== this.#stream);
    const connected = Object.values(this.#room.getStreams()).filter((stream) => stream.getWebRtcPeer());
    const text = explainInterruption({
      names: others.map((stream) => stream.getParticipant().getID()),
      own: this.#interrupted.has(this.#stream),
      all: connected.every((stream) => this.#interrupted.has(stream)),
    });
    this.#setBanner('interruption', text, 'Join again', this.#onagain);
  }

  /** Nothing more is tried until the user does something. */
  #mediaFailed(text, stream = null) {
    this.#failures.delete(stream);
    this.#failures.set(stream, text);
    // Nobody connects it again.
    if (this.#interrupted.delete(stream)) this.#tellInterruption();
    this.#tellFailure();
  }

  #mediaWork(stream) {
    if (this.#failures.delete(stream)) this.#tellFailure();
  }

  #tellFailure() {
    this.#setBanner('failure', [...this.#failures.values()].at(-1), 'Join again', this.#onagain, () => {
      this.#failures.clear();
      this.#tellFailure();
    });
  }

  // What the user does.

  #bindButtons(signal) {
    const click = (id, handler) => byId(id).addEventListener('click', handler, { signal });
    click('buttonVolume', () => this.#toggle('audio'));
    click('buttonVideocam', () => this.#toggle('video'));
    click('buttonScreen', () => this.#guard('video', () => (this.#screen ? this.#stopScreen() : this.#startScreen())));
    click('buttonMainSpeaker', () => {
      this.#tiles.setLayout(this.#isSpeakerLayout() ? 'grid' : 'speaker');
      this.#update();
    });
    click('buttonDisconnect', () => this.#disconnectMain());
    click('buttonLeaveRoom', () => this.#onend());
    click('buttonSettings', () => this.#devices.open());
    click('buttonLink', () => this.#copyLink());
    click('buttonFullScreen', () => {
      if (document.fullscreenElement) document.exitFullscreen();
      // The whole page: notices and the banner are not in the room's element.
      else document.documentElement.requestFullscreen?.().catch(() => notify('The browser does not allow full screen.'));
    });
    for (const [button, panel] of Object.entries(PANELS)) {
      click(button, () => this.#openPanel(button, byId(panel).hidden));
      byId(panel).querySelector('.close').addEventListener('click', () => this.#openPanel(button, false), { signal });
      byId(panel).addEventListener('keydown', (event) => {
        if (event.key === 'Escape') this.#openPanel(button, false);
      }, { signal });
    }
    byId('buttonScreen').hidden = !navigator.mediaDevices?.getDisplayMedia;
    byId('buttonFullScreen').hidden = !document.fullscreenEnabled;
  }

  #openPanel(button, open) {
    for (const [otherButton, panel] of Object.entries(PANELS)) {
      const isOpen = open && otherButton === button;
      const wasOpen = !byId(panel).hidden;
      byId(panel).hidden = !isOpen;
      byId(otherButton).setAttribute('aria-expanded', String(isOpen));
      if (wasOpen && !isOpen && !open && !this.#ended) byId(button).focus();
    }
    byId('room').classList.toggle('with-panel', open);
    if (open && button === 'buttonStatistics') this.#statistics.start();
    else this.#statistics.stop();
    if (open && button === 'buttonChat') {
      byId('buttonChat').classList.remove('unread');
      byId('inputMessage').focus();
    }
  }

  #toggle(kind) {
    if (kind === 'video' && this.#screen) return null;
    return this.#guard(kind, async () => {
      if (this.#has(kind)) await this.#stream.stopTrack(kind);
      else await this.#start(kind);
    });
  }

  /** One change per kind at a time; a problem is told, and the buttons show what is. */
  async #guard(kind, change) {
    if (this.#busy.has(kind)) return;
    this.#busy.add(kind);
    this.#update();
    try {
      await change();
    } catch (error) {
      // Closing the browser's own screen chooser is an answer, not a problem.
      if (!(kind === 'video' && error.name === 'NotAllowedError' && this.#choosingScreen)) notify(explain(error));
    }
    this.#choosingScreen = false;
    this.#busy.delete(kind);
    this.#update();
  }

  async #start(kind) {
    const { video } = this.#parameters;
    const size = video ? { width: { ideal: video.width }, height: { ideal: video.height } } : { width: { ideal: 1280 } };
    const constraints = kind === 'video'
      ? this.#devices.constraints('videoinput', { ...size, frameRate: { ideal: 15 } })
      : this.#devices.constraints('audioinput');
    await this.#stream.startTrack(kind, constraints);
    if (!this.#published) await this.#publish();
  }

  async #startScreen() {
    this.#choosingScreen = true;
    const media = await navigator.mediaDevices.getDisplayMedia({ video: true });
    this.#choosingScreen = false;
    this.#cameraBeforeScreen = this.#has('video');
    this.#screen = media.getVideoTracks()[0];
    this.#screen.addEventListener('ended', () => this.#guard('video', () => this.#stopScreen()));
    await this.#stream.replaceTrack('video', this.#screen);
    this.#tiles.setMirrored(this.#stream, false);
    if (!this.#published) await this.#publish();
  }

  async #stopScreen() {
    this.#screen?.stop();
    this.#screen = null;
    await this.#stream.replaceTrack('video', null);
    this.#tiles.setMirrored(this.#stream, this.#isMirrored());
    if (this.#cameraBeforeScreen) await this.#start('video');
  }

  async #changeDevice(kind, deviceId) {
    if (kind === 'audiooutput') await this.#tiles.setSink(deviceId);
    else if (kind === 'audioinput' && this.#has('audio')) await this.#start('audio');
    else if (kind === 'videoinput' && this.#has('video') && !this.#screen) await this.#start('video');
    this.#update();
  }

  #lostDevice(track) {
    notify(track.kind === 'audio' ? 'Your microphone is gone.' : 'Your camera is gone.');
    this.#guard(track.kind, () => this.#stream.stopTrack(track.kind));
  }

  #publish() {
    // A refusal is told by `error-publish`.
    return this.#stream.publish().catch(() => {});
  }

  async #disconnectMain() {
    const stream = this.#tiles.main;
    if (!stream) return;
    if (stream === this.#stream) {
      this.#screen?.stop();
      this.#screen = null;
    }
    this.#removeTile(stream);
    try {
      await this.#kurento.disconnectParticipant(stream);
      if (stream === this.#stream) notify('You are neither seen nor heard. Turn on the microphone or the camera to come back.');
    } catch (error) {
      notify(explain(error));
    }
    this.#update();
  }

  async #copyLink() {
    try {
      await navigator.clipboard.writeText(roomLink(this.#room.name));
      notify('The link is copied.');
    } catch {
      notify(`The link to this room: ${roomLink(this.#room.name)}`);
    }
  }

  // What the page shows.

  #has(kind) {
    return Boolean(this.#stream.getLocalMediaStream()?.getTracks().some((track) => track.kind === kind));
  }

  #isMirrored() {
    return !this.#loopback && !this.#screen;
  }

  #isSpeakerLayout() {
    return byId('room').dataset.layout === 'speaker';
  }

  #setSpeaking(gid, speaking) {
    if (!this.#serverHears) this.#tiles.setSpeaking(gid, speaking);
  }

  #removeTile(stream) {
    this.#tiles.remove(stream);
    if (this.#interrupted.delete(stream)) this.#tellInterruption();
    this.#update();
  }

  #update() {
    if (this.#ended) return;
    const mic = this.#has('audio');
    const camera = this.#has('video') && !this.#screen;
    const main = this.#tiles.main;
    dress(byId('buttonVolume'), mic ? 'mic' : 'mic-off', mic ? 'Turn the microphone off' : 'Turn the microphone on');
    dress(byId('buttonVideocam'), camera ? 'camera' : 'camera-off', camera ? 'Turn the camera off' : 'Turn the camera on');
    dress(byId('buttonScreen'), 'screen', this.#screen ? 'Stop sharing the screen' : 'Share the screen');
    dressLayoutButton(byId('buttonMainSpeaker'), this.#isSpeakerLayout());
    const isOwn = main === this.#stream;
    const whom = isOwn ? 'Stop sending your sound and picture' : `Stop watching ${main?.getParticipant().getID()}`;
    dress(byId('buttonDisconnect'), isOwn ? 'vanish' : 'hide', main ? whom : 'Nobody is selected');
    byId('buttonVolume').classList.toggle('off', !mic);
    byId('buttonVideocam').classList.toggle('off', !camera);
    byId('buttonScreen').classList.toggle('on', Boolean(this.#screen));
    // Not `disabled`: that would take the keyboard's focus away.
    byId('buttonVolume').setAttribute('aria-disabled', String(this.#busy.has('audio')));
    byId('buttonVideocam').setAttribute('aria-disabled', String(this.#busy.has('video') || Boolean(this.#screen)));
    byId('buttonDisconnect').setAttribute('aria-disabled', String(!main));
    const isAlone = Object.keys(this.#room.getParticipants()).length < 2;
    byId('empty').classList.toggle('alone', Boolean(main));
    byId('empty').textContent = this.#emptyText(isAlone, main);
    this.#watchOwnVoice();
    showPeople(this.#room, (stream) => this.#tiles.has(stream), (stream) => {
      this.#tiles.add(stream);
      stream.subscribe();
      this.#update();
    });
  }

  #emptyText(isAlone, main) {
    if (isAlone) return 'Nobody else is here yet. Copy the link at the top to invite others.';
    return main ? '' : 'Nobody shows anything yet.';
  }

  /** Only received streams are watched by the client; the own tile should light up as well. */
  #watchOwnVoice() {
    const track = this.#stream.getLocalMediaStream()?.getAudioTracks()[0] ?? null;
    if (track === this.#watchedTrack || this.#loopback) return;
    this.#watchedTrack = track;
    this.#ownDetector?.stop();
    this.#ownDetector = null;
    if (!track) return;
    const gid = this.#stream.getGlobalID();
    this.#ownDetector = new SpeakingDetector(new MediaStream([track]), this.#room.thresholdSpeaker, {
      onspeaking: () => this.#setSpeaking(gid, true),
      onstopped: () => this.#setSpeaking(gid, false),
    });
  }
}
