// Getting at microphones, cameras and screens.

/** What an application that asks for nothing special gets. */
const DEFAULT_VIDEO = { width: { ideal: 1280 }, frameRate: { ideal: 15 } };

/** Resolves with a MediaStream for the options of a local Stream. */
export async function capture({ audio = true, video = true, constraints, screen }) {
  if (screen) {
    return mediaDevices().getDisplayMedia({ video: typeof video === 'object' ? video : true, audio: audio === true });
  }
  const wanted = constraints ?? { audio, video: video === true ? DEFAULT_VIDEO : video };
  if (!wanted.audio && !wanted.video) return new MediaStream();
  return mediaDevices().getUserMedia(wanted);
}

/** Resolves with one track, for a kind that was off or comes from another device. */
export async function captureTrack(kind, constraints) {
  const wanted = constraints ?? (kind === 'video' ? DEFAULT_VIDEO : true);
  const stream = await mediaDevices().getUserMedia({ [kind]: wanted });
  return stream.getTracks()[0];
}

function mediaDevices() {
  const devices = globalThis.navigator?.mediaDevices;
  if (devices) return devices;
  // Browsers hide the devices from pages that are not on HTTPS or localhost.
  throw new DOMException('Devices can be used only on a secure page', 'NotSupportedError');
}
