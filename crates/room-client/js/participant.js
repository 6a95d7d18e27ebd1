// Somebody in the room, and the streams they publish.

export class Participant {
  #kurento;
  #id;
  #streams = Object.create(null);

  constructor(kurento, local, room, options) {
    this.#kurento = kurento;
    this.local = local;
    this.room = room;
    this.#id = options.id;
  }

  getID() {
    return this.#id;
  }

  setId(id) {
    this.#id = id;
  }

  /** Adds it to the room's streams too. */
  addStream(stream) {
    this.#streams[stream.getID()] = stream;
    this.room.getStreams()[stream.getGlobalID()] = stream;
  }

  removeStream(stream) {
    if (this.#streams[stream.getID()] === stream) delete this.#streams[stream.getID()];
    const streams = this.room.getStreams();
    if (streams[stream.getGlobalID()] === stream) delete streams[stream.getGlobalID()];
  }

  /** The streams by their id. */
  getStreams() {
    return this.#streams;
  }

  dispose() {
    for (const stream of Object.values(this.#streams)) {
      stream.dispose();
      this.removeStream(stream);
    }
  }

  /** Tells the server about a candidate of the peer connection that carries this participant. */
  sendIceCandidate({ candidate, sdpMid, sdpMLineIndex }) {
    const params = { endpointName: this.#id, candidate, sdpMid, sdpMLineIndex };
    this.#kurento.request('onIceCandidate', params).catch((error) => {
      console.debug('candidate not delivered:', error.message);
    });
  }
}
