// How large a stream is shown, and whether at all: what is not seen need not be sent.

/** A picture this much higher than its place looks better than the next smaller one stretched. */
const HEADROOM = 1.5;
/** Heights are asked for in steps, so that a window being resized does not ask for each pixel. */
const HEIGHT_STEP = 30;
/** What the protocol can say. */
const HEIGHT_MAX = 16_384;
/** Somebody waits for a sharp picture. */
const GROW_DELAY_MS = 100;
/** A glance at another tab, or a scroll past, is not worth a new key frame. */
const SHRINK_DELAY_MS = 1_500;

/** Until the first picture tells. */
const DEFAULT_RATIO = 16 / 9;

/** Watches the elements that show one stream. */
export class Viewing {
  /** Element → what the observers said of it. */
  #elements = new Map();
  #onchange;
  #sizes;
  #visibilities;
  #timer = null;
  /** What was wanted when `onchange` was called last. */
  #told = {};
  #changed = () => this.#reconsider();

  /**
   * `onchange()` is called some time after what is seen has changed; `wanted` tells what.
   * Null where the browser cannot tell.
   */
  static create(onchange) {
    const able = globalThis.ResizeObserver && globalThis.IntersectionObserver && globalThis.document;
    return able ? new Viewing(onchange) : null;
  }

  constructor(onchange) {
    this.#onchange = onchange;
    this.#sizes = new ResizeObserver(this.#changed);
    this.#visibilities = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const element = this.#elements.get(target);
        if (element) element.visible = isIntersecting;
      }
      this.#reconsider();
    });
    document.addEventListener('visibilitychange', this.#changed);
  }

  observe(video) {
    if (this.#elements.has(video)) return;
    this.#elements.set(video, { visible: null });
    this.#sizes.observe(video);
    this.#visibilities.observe(video);
    for (const event of ['resize', 'enterpictureinpicture', 'leavepictureinpicture']) {
      video.addEventListener(event, this.#changed);
    }
    this.#reconsider();
  }

  unobserve(video) {
    if (!this.#elements.delete(video)) return;
    this.#sizes.unobserve(video);
    this.#visibilities.unobserve(video);
    for (const event of ['resize', 'enterpictureinpicture', 'leavepictureinpicture']) {
      video.removeEventListener(event, this.#changed);
    }
    this.#reconsider();
  }

  /** `{pauseVideo: true}`, `{maxHeight}`, or `{}` if everything is wanted. */
  get wanted() {
    // Whoever shows it in ways unknown here gets everything.
    if (this.#elements.size === 0) return {};
    const heights = [];
    for (const [video, { visible }] of this.#elements) {
      if (visible === null) return {};
      if (isInPicture(video)) return {};
      if (visible && !document.hidden) heights.push(heightOf(video));
    }
    if (heights.length === 0) return { pauseVideo: true };
    const height = Math.max(...heights);
    // Laid out, but without a size yet.
    if (height === 0) return {};
    return { maxHeight: Math.min(HEIGHT_MAX, Math.ceil((height * HEADROOM) / HEIGHT_STEP) * HEIGHT_STEP) };
  }

  dispose() {
    document.removeEventListener('visibilitychange', this.#changed);
    for (const video of [...this.#elements.keys()]) this.unobserve(video);
    clearTimeout(this.#timer);
    this.#sizes.disconnect();
    this.#visibilities.disconnect();
  }

  #reconsider() {
    clearTimeout(this.#timer);
    const change = rank(this.wanted) - rank(this.#told);
    // The difference of two infinities is none.
    if (!change) return;
    this.#timer = setTimeout(() => {
      this.#told = this.wanted;
      this.#onchange();
    }, change > 0 ? GROW_DELAY_MS : SHRINK_DELAY_MS);
  }
}

/** A place in the order from nothing to everything. */
function rank({ pauseVideo, maxHeight }) {
  return pauseVideo ? 0 : maxHeight ?? Infinity;
}

/** In a window of its own, whose size the page does not learn. */
function isInPicture(video) {
  return document.pictureInPictureElement === video;
}

/** Pixels of the screen that the whole picture would be high, shown as it is. */
function heightOf(video) {
  const { width, height } = video.getBoundingClientRect();
  const ratio = video.videoWidth > 0 ? video.videoWidth / video.videoHeight : DEFAULT_RATIO;
  const byWidth = width / ratio;
  const fit = getComputedStyle(video).objectFit;
  const shown = fit === 'cover' || fit === 'fill' ? Math.max(height, byWidth) : Math.min(height, byWidth);
  return shown * (globalThis.devicePixelRatio || 1);
}
