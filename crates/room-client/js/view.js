// The elements a stream is shown with. Ids and classes are those applications style.

const NAME_LENGTH_MAX = 16;

export class StreamView {
  #stream;
  #videos = [];
  #nodes = [];
  #media = null;
  #onshown;
  #ongone;

  /** `onshown(video)` and `ongone(video)`: an element is used, and not any more. */
  constructor(stream, { onshown, ongone } = {}) {
    this.#stream = stream;
    this.#onshown = onshown;
    this.#ongone = ongone;
  }

  /** `parent`: element or its id. `thumbnailId`: hidden element, or its id, to show with the media. */
  playOnlyVideo(parent, thumbnailId) {
    const globalId = this.#stream.getGlobalID();
    const video = document.createElement('video');
    video.id = `native-video-${globalId}`;
    video.autoplay = true;
    video.controls = false;
    // Phones would open their own player.
    video.playsInline = true;
    video.muted = this.#stream.isLocal;
    element(parent)?.append(video);
    this.#nodes.push(video);
    this.#videos.push({ video, thumbnailId });
    const media = this.#media ?? this.#stream.getLocalMediaStream();
    if (media) this.#show({ video, thumbnailId }, media);
    this.#onshown?.(video);
    return video;
  }

  playThumbnail(parentId) {
    const globalId = this.#stream.getGlobalID();
    const container = document.createElement('div');
    container.className = 'participant';
    container.id = globalId;
    element(parentId)?.append(container);
    this.#nodes.push(container);

    const name = document.createElement('div');
    name.className = 'name';
    name.id = `name-${globalId}`;
    name.title = globalId;
    name.textContent = shorten(globalId.replace('_webcam', ''));
    container.append(name);

    const spinner = document.createElement('div');
    spinner.id = `progress-${globalId}`;
    const image = document.createElement('img');
    image.src = 'img/spinner.gif';
    image.alt = '';
    spinner.append(image);
    container.append(spinner);

    return this.playOnlyVideo(container, container);
  }

  /** Shows other media in all elements, those to come included. */
  play(mediaStream) {
    this.#media = mediaStream;
    this.#forgetRemoved();
    for (const entry of this.#videos) this.#show(entry, mediaStream);
  }

  dispose() {
    for (const { video } of this.#videos) {
      video.srcObject = null;
      this.#ongone?.(video);
    }
    for (const node of this.#nodes) node.remove();
    this.#videos = [];
    this.#nodes = [];
  }

  /** A video the application took off the page would still be heard. */
  #forgetRemoved() {
    this.#videos = this.#videos.filter(({ video }) => {
      const removed = video.srcObject && !video.isConnected;
      if (removed) {
        video.srcObject = null;
        this.#ongone?.(video);
      }
      return !removed;
    });
  }

  #show({ video, thumbnailId }, mediaStream) {
    if (video.srcObject !== mediaStream) video.srcObject = mediaStream;
    const thumbnail = element(thumbnailId);
    if (thumbnail) {
      thumbnail.hidden = false;
      thumbnail.style.display = '';
    }
    document.getElementById(`progress-${this.#stream.getGlobalID()}`)?.remove();
  }
}

function element(nodeOrId) {
  return typeof nodeOrId === 'string' ? document.getElementById(nodeOrId) : nodeOrId ?? null;
}

function shorten(name) {
  return name.length >= NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX)}...` : name;
}
