// One tile per stream, and the stage for the main one.

import { byId, dress, icon, make } from './page.js';
import { Quality } from './quality.js';

const TILE_RATIO = 16 / 9;
const GAP_PX = 10;
/** A picture that has not moved for so long is not shown any more. */
const PICTURE_CHECK_MS = 1_500;

/** Columns that give `count` tiles of 16:9 the largest size in `width` × `height` pixels. */
export function columnsFor(count, width, height) {
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const byWidth = (width - GAP_PX * (columns - 1)) / columns;
    const byHeight = ((height - GAP_PX * (rows - 1)) / rows) * TILE_RATIO;
    const size = Math.min(byWidth, byHeight);
    if (size > best.size) best = { columns, size };
  }
  return best;
}

export class Tiles {
  #room = byId('room');
  #list = byId('participants');
  #stage = byId('main-video');
  #tiles = new Map();
  #main = null;
  /** The one the user clicked on. */
  #chosen = null;
  /** The one on the stage. */
  #staged = null;
  #sinkId = '';
  #timer;
  #observer;
  #onblocked;
  #onselected;

  /** `onblocked(resume)`: the browser plays no sound before a click. `onselected()`: another picture is the main one. */
  constructor({ onblocked, onselected }) {
    this.#onblocked = onblocked;
    this.#onselected = onselected;
    this.#observer = new ResizeObserver(() => this.#arrange());
    this.#observer.observe(this.#list);
    this.#timer = setInterval(() => this.#checkPictures(), PICTURE_CHECK_MS);
    this.setLayout('grid');
  }

  get main() {
    return this.#main;
  }

  get videos() {
    return [...this.#tiles.values()].map(({ video }) => video);
  }

  add(stream, { mirrored = false } = {}) {
    const gid = stream.getGlobalID();
    if (this.#tiles.has(gid)) this.remove(this.#tiles.get(gid).stream);
    const name = stream.getParticipant().getID();
    const label = stream.isLocal ? `${name} (${stream.displayMyRemote() ? 'you, as the server sends you' : 'you'})` : name;
    const node = make('div', { className: 'video', id: `video-${gid}`, tabIndex: 0 });
    node.dataset.gid = gid;
    node.classList.toggle('own', stream.isLocal);
    node.setAttribute('role', 'button');
    node.setAttribute('aria-label', `${label}: make this the main picture`);
    const avatar = make('span', { className: 'avatar' }, [...name.trim()][0]?.toUpperCase() ?? '?');
    avatar.setAttribute('aria-hidden', 'true');
    // Peers should look different without a picture, and the same to everybody.
    avatar.dataset.tint = String([...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 5);
    const badge = make('span', { className: 'speaking-badge', id: `speakervideo-${gid}`, title: 'Speaking', hidden: true }, icon('sound'));
    const state = make('span', { className: 'state' });
    const caption = make('span', { className: 'caption' }, badge, make('span', { className: 'label' }, label));
    const quality = new Quality(stream);
    node.append(avatar, state, quality.node, caption);
    const choose = () => {
      this.#chosen = stream;
      this.select(stream);
    };
    node.addEventListener('click', choose);
    node.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose();
    });
    this.#list.append(node);
    const video = stream.playOnlyVideo(node, null);
    video.classList.toggle('mirrored', mirrored);
    node.prepend(video);
    this.#tiles.set(gid, { stream, node, video, badge, state, avatar, quality, frames: 0, counted: countFrames(video, () => this.#showPicture(gid)) });
    node.classList.add('no-picture');
    video.addEventListener('resize', () => this.#checkPictures());
    video.addEventListener('loadedmetadata', () => {
      node.classList.toggle('no-picture', video.videoWidth === 0);
      this.#play(video);
    });
    if (this.#sinkId) video.setSinkId?.(this.#sinkId).catch(() => {});
    if (!this.#main) this.select(stream);
    else this.#preferOthers();
    this.#arrange();
  }

  remove(stream) {
    const gid = stream.getGlobalID();
    const tile = this.#tiles.get(gid);
    if (!tile) return;
    const focused = tile.node.contains(document.activeElement);
    tile.node.remove();
    this.#tiles.delete(gid);
    if (this.#main === tile.stream) {
      this.#main = null;
      const own = [...this.#tiles.values()].find((other) => other.stream.isLocal);
      const next = own ?? this.#tiles.values().next().value;
      if (next) this.select(next.stream);
      else this.#clearStage();
    }
    if (focused) this.#list.querySelector('.video')?.focus();
    this.#arrange();
  }

  has(stream) {
    return this.#tiles.get(stream.getGlobalID())?.stream === stream;
  }

  select(stream) {
    this.#main = stream;
    for (const tile of this.#tiles.values()) {
      tile.node.classList.toggle('active-video', tile.stream === stream);
      tile.node.setAttribute('aria-pressed', String(tile.stream === stream));
    }
    this.#showStage();
    this.#onselected();
  }

  selectId(gid) {
    const tile = this.#tiles.get(gid);
    if (tile && tile.stream !== this.#main) this.select(tile.stream);
  }

  /** `grid` or `speaker`. */
  setLayout(layout) {
    this.#room.dataset.layout = layout;
    this.#preferOthers();
    this.#showStage();
    this.#arrange();
  }

  setSpeaking(gid, speaking) {
    const tile = this.#tiles.get(gid);
    if (!tile) return;
    tile.node.classList.toggle('speaking', speaking);
    tile.badge.hidden = !speaking;
  }

  /** Lights up those and no others. */
  showSpeaking(gids) {
    for (const gid of this.#tiles.keys()) this.setSpeaking(gid, gids.has(gid));
  }

  setDelivery(stream, delivery) {
    this.#tiles.get(stream.getGlobalID())?.quality.show(delivery);
  }

  setState(stream, text) {
    const tile = this.#tiles.get(stream.getGlobalID());
    if (tile && tile.state.textContent !== text) tile.state.textContent = text;
  }

  setMirrored(stream, mirrored) {
    this.#tiles.get(stream.getGlobalID())?.video.classList.toggle('mirrored', mirrored);
    if (stream === this.#main) this.#showStage();
  }

  async setSink(sinkId) {
    this.#sinkId = sinkId;
    await Promise.all(this.videos.map((video) => video.setSinkId?.(sinkId)));
  }

  dispose() {
    clearInterval(this.#timer);
    this.#observer.disconnect();
    for (const { node } of this.#tiles.values()) node.remove();
    this.#tiles.clear();
    this.#clearStage();
  }

  /** Nobody wants to see themselves in large, unless they asked for it. */
  #preferOthers() {
    if (this.#room.dataset.layout !== 'speaker' || !this.#main?.isLocal || this.#chosen === this.#main) return;
    const other = [...this.#tiles.values()].find(({ stream }) => !stream.isLocal);
    if (other) this.select(other.stream);
  }

  /** A picture that comes back is not kept waiting for the next check. */
  #showPicture(gid) {
    const tile = this.#tiles.get(gid);
    if (!tile?.node.classList.contains('no-picture') || tile.video.videoWidth === 0) return;
    tile.node.classList.remove('no-picture');
    if (tile.stream === this.#main) this.#showStage();
  }

  #showStage() {
    const tile = this.#main && this.#tiles.get(this.#main.getGlobalID());
    if (this.#room.dataset.layout !== 'speaker' || !tile) {
      this.#clearStage();
      return;
    }
    let video = this.#stage.querySelector('video');
    if (!video) {
      // The tile plays the sound.
      video = make('video', { autoplay: true, playsInline: true, muted: true });
      this.#stage.append(video, make('span', { className: 'caption' }));
    }
    if (this.#staged !== tile.stream) this.#setStaged(tile.stream, video);
    if (video.srcObject !== tile.video.srcObject) video.srcObject = tile.video.srcObject;
    video.classList.toggle('mirrored', tile.video.classList.contains('mirrored'));
    this.#stage.querySelector('.avatar')?.remove();
    this.#stage.append(tile.avatar.cloneNode(true));
    this.#stage.classList.toggle('no-picture', tile.node.classList.contains('no-picture'));
    this.#stage.querySelector('.caption').textContent = tile.node.querySelector('.label').textContent;
  }

  #clearStage() {
    this.#setStaged(null, this.#stage.querySelector('video'));
    this.#stage.replaceChildren();
  }

  /** The stage wants a larger picture than the tile, and before the others. */
  #setStaged(stream, video) {
    if (this.#staged && video) this.#staged.unobserveVideo(video);
    this.#staged = stream;
    if (stream) stream.observeVideo(video);
    for (const tile of this.#tiles.values()) tile.quality.setMain(tile.stream === stream);
  }

  /** A remote camera that was switched off leaves its last picture behind. */
  #checkPictures() {
    if (document.hidden) return;
    for (const tile of this.#tiles.values()) {
      const frames = tile.counted();
      const live = tile.video.srcObject?.getVideoTracks().some(({ readyState }) => readyState === 'live');
      const moving = live && tile.video.videoWidth > 0 && frames !== tile.frames;
      tile.frames = frames;
      tile.node.classList.toggle('no-picture', !moving);
      if (tile.stream === this.#main) this.#showStage();
    }
  }

  #play(video) {
    video.play().catch((error) => {
      if (error.name !== 'NotAllowedError') return;
      this.#onblocked(() => {
        for (const blocked of this.videos) blocked.play().catch(() => {});
      });
    });
  }

  #arrange() {
    const { columns, size } = columnsFor(this.#tiles.size, this.#list.clientWidth, this.#list.clientHeight);
    this.#list.style.setProperty('--columns', columns);
    this.#list.style.setProperty('--tile-width', `${Math.max(80, Math.floor(size))}px`);
  }
}

/** Gives a function that says how many frames `video` has shown; calls `onframe` for each, where the browser tells. */
function countFrames(video, onframe) {
  let shown = 0;
  const count = () => {
    shown += 1;
    onframe();
    video.requestVideoFrameCallback(count);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(count);
  else if (!video.getVideoPlaybackQuality) return () => video.currentTime;
  // Firefox counts no frames of live media in the one, Chromium has no callbacks for hidden pages in the other.
  return () => shown + (video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0);
}

export function dressLayoutButton(button, isSpeaker) {
  dress(button, 'speaker-view', isSpeaker ? 'Show everybody at the same size' : 'Follow the speaker');
  button.setAttribute('aria-pressed', String(isSpeaker));
}
