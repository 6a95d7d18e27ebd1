// Tells when somebody speaks, from the loudest frequency of an audio track.

const SAMPLE_INTERVAL_MS = 50;
/** Loud samples of the last `HISTORY` that start speech. Fewer: clicks count. More: slow. */
const LOUD_SAMPLES_TO_START = 3;
/** Samples that must all be quiet before speech ends. Fewer: it flickers between words. */
const HISTORY = 10;
/** The lowest bins hold hum and rumble. */
const FIRST_BIN = 4;

// Browsers allow only a few contexts per page.
let sharedContext = null;

function audioContext() {
  const Context = globalThis.AudioContext;
  if (!Context) return null;
  sharedContext ??= new Context();
  // Without a user's gesture the context starts suspended; it is asked again for each stream.
  if (sharedContext.state === 'suspended') sharedContext.resume().catch(() => {});
  return sharedContext;
}

export class SpeakingDetector {
  #source = null;
  #timer = null;
  #speaking = false;
  #onstop;

  /** `threshold` is in dB (below 0). `handlers`: `onspeaking()`, `onstopped()`. */
  constructor(mediaStream, threshold, handlers) {
    this.#onstop = handlers.onstopped;
    const context = audioContext();
    if (!context || mediaStream.getAudioTracks().length === 0) return;
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    analyser.smoothingTimeConstant = 0.1;
    this.#source = context.createMediaStreamSource(mediaStream);
    this.#source.connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    const history = new Array(HISTORY).fill(false);
    this.#timer = setInterval(() => {
      analyser.getFloatFrequencyData(bins);
      history.shift();
      history.push(bins.subarray(FIRST_BIN).some((decibel) => decibel > threshold && decibel < 0));
      const loud = history.filter(Boolean).length;
      if (!this.#speaking && loud >= LOUD_SAMPLES_TO_START) {
        this.#speaking = true;
        handlers.onspeaking();
      } else if (this.#speaking && loud === 0) {
        this.#speaking = false;
        handlers.onstopped();
      }
    }, SAMPLE_INTERVAL_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#source = null;
    if (!this.#speaking) return;
    this.#speaking = false;
    this.#onstop();
  }
}
