// Ends of connections without signaling, for a page that the impairment test steers.

/** How often it is looked at what is encoded and decoded. */
const SAMPLE_MS = 50;

/** One connection; the test carries descriptions and candidates. */
class End {
  constructor() {
    this.connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  }

  async offer() {
    await this.connection.setLocalDescription();
    return this.connection.localDescription.sdp;
  }

  /** Takes `candidate` for all of those in the answer. */
  async accept(answer, candidate) {
    const sdp = answer.replace(/^a=(candidate|end-of-candidates).*\r?\n/gm, '');
    await this.connection.setRemoteDescription({ type: 'answer', sdp });
    await this.connection.addIceCandidate({ candidate, sdpMLineIndex: 0 });
  }

  async stats(type, kind) {
    const report = await this.connection.getStats();
    return [...report.values()].filter((entry) => entry.type === type && entry.kind === kind);
  }
}

/**
 * Sends a tone, and a picture that costs an encoder all the bits it may spend: boxes, plain ones or of noise, of which
 * less is left the smaller it is scaled.
 */
class Publisher extends End {
  async begin({ width, height, rate, codec, encodings, boxes, isNoise }) {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    const context = canvas.getContext('2d', { alpha: false });
    // Seeded, so that every run shows the same pictures.
    let state = 1;
    const random = (below) => {
      state = (state * 48271) % 2147483647;
      return state % below;
    };
    const noise = new ImageData(Math.round(width / 10), Math.round(height / 10));
    const draw = () => {
      for (let box = 0; box < boxes; box += 1) {
        if (isNoise) {
          const bright = random(208);
          noise.data.forEach((_, index) => {
            noise.data[index] = index % 4 === 3 ? 255 : bright + random(48);
          });
          context.putImageData(noise, random(width), random(height));
        } else {
          context.fillStyle = `hsl(${random(360)} ${random(100)}% ${random(100)}%)`;
          context.fillRect(random(width), random(height), width / 16, height / 16);
        }
      }
    };
    draw();
    setInterval(draw, 1000 / rate);
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    const microphone = audio.createMediaStreamDestination();
    tone.connect(microphone);
    tone.start();
    this.connection.addTransceiver(microphone.stream.getTracks()[0], { direction: 'sendonly' });
    const [picture] = canvas.captureStream(rate).getTracks();
    const video = this.connection.addTransceiver(picture, { direction: 'sendonly', sendEncodings: encodings });
    const { codecs } = RTCRtpSender.getCapabilities('video');
    const wanted = new RegExp(`^video/(${codec}|rtx)$`, 'i');
    video.setCodecPreferences(codecs.filter(({ mimeType }) => wanted.test(mimeType)));
    const parameters = video.sender.getParameters();
    // A busy machine should cost pictures per second, and not change what the layers are.
    parameters.degradationPreference = 'maintain-resolution';
    await video.sender.setParameters(parameters);
    return this.offer();
  }

  /** Pictures taken so far; encoders count each spatial layer. */
  async pictures() {
    const [source] = await this.stats('media-source', 'video');
    return source.frames;
  }

  /** What its path carries, by its own estimate, bit/s. */
  async estimate() {
    const report = await this.connection.getStats();
    const rates = [...report.values()].map((entry) => entry.availableOutgoingBitrate ?? 0);
    return Math.max(...rates);
  }

  /** Longest time without another frame of the smallest encoding or layer, ms: what a busy machine does by itself. */
  async watch(seconds) {
    const end = performance.now() + seconds * 1000;
    let longest = 0;
    let changed = { at: performance.now(), frames: 0 };
    while (performance.now() < end) {
      const { frames } = (await this.layers()).at(-1);
      const at = performance.now();
      longest = Math.max(longest, at - changed.at);
      if (frames !== changed.frames) changed = { at, frames };
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    }
    return Math.round(longest);
  }

  /** What is sent by each encoding, the largest first. */
  async layers() {
    const layers = await this.stats('outbound-rtp', 'video');
    return layers
      .map((layer) => ({
        rid: layer.rid ?? null,
        width: layer.frameWidth ?? 0,
        frames: layer.framesEncoded,
        bytes: layer.bytesSent,
        mode: layer.scalabilityMode ?? null,
        limited: layer.qualityLimitationReason,
      }))
      .sort((one, other) => other.width - one.width);
  }
}

/** Receives a tone and a picture, and keeps a record. */
class Viewer extends End {
  #samples = [];

  async begin() {
    for (const kind of ['audio', 'video']) {
      const transceiver = this.connection.addTransceiver(kind, { direction: 'recvonly' });
      // Not offered to receive otherwise.
      const extensions = transceiver.getHeaderExtensionsToNegotiate();
      const descriptor = extensions.find(({ uri }) => uri.includes('dependency-descriptor'));
      if (descriptor) descriptor.direction = 'sendrecv';
      transceiver.setHeaderExtensionsToNegotiate(extensions);
    }
    const stream = new MediaStream();
    const player = Object.assign(document.createElement('video'), { autoplay: true, muted: true, srcObject: stream });
    document.body.append(player);
    this.connection.ontrack = ({ track }) => stream.addTrack(track);
    return this.offer();
  }

  async #sample() {
    const [[video], [audio]] = await Promise.all([
      this.stats('inbound-rtp', 'video'),
      this.stats('inbound-rtp', 'audio'),
    ]);
    return { at: performance.now(), video: video ?? {}, audio: audio ?? {} };
  }

  /** Waits for the first picture, watches on for a while and tells what there was to see. */
  async watch(seconds, settlingSeconds) {
    let began;
    for (;;) {
      const sample = await this.#sample();
      if (sample.video.framesDecoded > 0) {
        began ??= sample.at;
        this.#samples.push(sample);
        if (sample.at - began > seconds * 1000) break;
      }
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    }
    return this.#report(began, settlingSeconds * 1000);
  }

  #report(began, settlingMs) {
    const timeline = [];
    let longest = { ms: 0, at_ms: 0 };
    let [changed, second] = [this.#samples[0], this.#samples[0]];
    for (const sample of this.#samples) {
      const { at, video } = sample;
      if (video.framesDecoded !== changed.video.framesDecoded) changed = sample;
      // Between two looks at the same count there was no other picture for certain.
      if (changed.at - began >= settlingMs && at - changed.at > longest.ms) {
        longest = { ms: Math.round(at - changed.at), at_ms: Math.round(changed.at - began) };
      }
      if (at - second.at >= 1000) {
        const rate = (key) => Math.round((video[key] - second.video[key]) * 1000 / (at - second.at));
        const size = `${video.frameWidth}x${video.frameHeight}`;
        const kbps = Math.round(rate('bytesReceived') * 8 / 1000);
        timeline.push(`${((at - began) / 1000).toFixed(1)} s: ${size}, ${rate('framesDecoded')} fps, ${kbps} kbit/s, `
          + `lost ${video.packetsLost}, nack ${video.nackCount}, pli ${video.pliCount}, freezes ${video.freezeCount}`);
        second = sample;
      }
    }
    const last = this.#samples.at(-1);
    const settled = this.#samples.find(({ at }) => at - began >= settlingMs);
    const seconds = (last.at - settled.at) / 1000;
    return {
      width: last.video.frameWidth,
      fps: (last.video.framesDecoded - settled.video.framesDecoded) / seconds,
      longest_freeze: longest,
      audio_concealed: (last.audio.concealedSamples - settled.audio.concealedSamples)
        / (last.audio.totalSamplesReceived - settled.audio.totalSamplesReceived),
      timeline,
    };
  }
}

Object.assign(globalThis, { Publisher, Viewer });
