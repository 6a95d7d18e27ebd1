//! The native media server: [`media::MediaServer`] on a set of workers.
//!
//! [`NativeMediaServer`] sends every call to the worker that owns the element, which its id names, and
//! awaits the answer. A pipeline begins on the least loaded worker, its home; of a large one, elements spill over to
//! others. A connection is the affair of its sink's worker. Deliberately absent: state about elements, which is the
//! engines' affair.

mod files;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use forwarding::rtp::NtpTime;
use media::{
    BandwidthLimits, DataChannelOptions, Delivery, ElementId, ElementKind, EndpointStats, Error,
    EventSender, IceCandidate, MediaKind, MediaServer, OfferOptions, Parameters, PipelineId,
};
use parking_lot::Mutex;
use recording::place::Place;
use tokio::sync::oneshot;

use self::files::{FileClass, Files};
use crate::config::{Config, interface_addresses};
use crate::engine::certificate::{Certificate, CertificateError};
use crate::engine::clock::Clock;
use crate::engine::{Engine, EngineConfig, Subject, ids};
use crate::metrics::Metrics;
use crate::worker::{
    BindError, CommandQueue, RtpAddresses, RtpPool, RtpSockets, Sockets, Worker, detect_offload,
    gone, plan_pinning,
};

/// Elements of a pipeline on its home from which endpoints of it may be made elsewhere: a room of eight in which
/// everybody sees everybody. Too low: media of small rooms crosses between workers for nothing. Too high: a large
/// room begins to spread late.
const SPILL_ELEMENTS_MIN: usize = 64;

/// How much more loaded than another worker the home must be, in elements of all pipelines. Too low: rooms that fit on one worker are
/// torn because of small differences. Too high: one worker is busy while others idle.
const SPILL_MARGIN: usize = 16;

/// The beginning of 1970 in NTP time, whose first era begins in 1900 (RFC 5905, section 6).
const NTP_UNIX_EPOCH_SECONDS: u64 = 2_208_988_800;

/// Why the media server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A socket could not be opened, mostly because the port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No address is left to listen on.
    #[error("no address to listen on")]
    NoAddress,
    /// The DTLS certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The system refused a thread or a poll loop.
    #[error("cannot start a media worker: {0}")]
    Worker(#[source] io::Error),
    /// The directory for recordings cannot be used.
    #[error("cannot keep recordings in {path} (--recordings): {source}")]
    Recordings {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Media elements in this process. Cheap to clone; the last clone to go stops the workers.
#[derive(Clone)]
pub struct NativeMediaServer {
    workers: Arc<Workers>,
    files: Arc<Files>,
    strict: bool,
}

struct Workers {
    queues: Vec<Arc<CommandQueue>>,
    ports: Vec<u16>,
    candidates: Vec<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl NativeMediaServer {
    /// Opens the sockets and starts the workers.
    ///
    /// # Errors
    ///
    /// If a port is taken or the system refuses something else; nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let certificate = Certificate::generate()?;
        let place = match &config.recordings {
            Some(directory) => Place::new(directory).map_err(|source| StartError::Recordings {
                path: directory.clone(),
                source,
            })?,
            None => Place::nowhere(),
        };
        let interfaces = interface_addresses();
        let clock = read_clocks();
        let rtp_pool = Arc::new(RtpPool::new(&config.rtp_ports));
        let offload = detect_offload(config.udp_offload);
        let cpus = plan_pinning(config.pin_workers, config.workers.get());
        let mut workers = Workers {
            queues: Vec::new(),
            ports: Vec::new(),
            candidates: Vec::new(),
            threads: Mutex::default(),
        };
        let mut prepared = Vec::new();
        let all = Sockets::open_all(
            &config.listen,
            config.udp_port,
            config.ice_tcp,
            config.workers.get(),
        )?;
        for (index, sockets) in all.into_iter().enumerate() {
            if sockets.udp.is_empty() {
                return Err(StartError::NoAddress);
            }
            let candidates: Vec<SocketAddr> = config
                .announced(&interfaces, &sockets.addresses())
                .into_iter()
                .map(|ip: IpAddr| SocketAddr::new(ip, sockets.port))
                .collect();
            if !workers.ports.contains(&sockets.port) {
                workers.ports.push(sockets.port);
                workers.candidates.extend(&candidates);
            }
            let rtp_addresses = RtpAddresses::choose(&sockets.addresses(), &candidates);
            let engine_config = EngineConfig {
                certificate: certificate.clone(),
                candidates,
                ice_tcp: config.ice_tcp,
                preferred_video_codec: config.preferred_video_codec,
                clock,
            };
            let engine = Engine::new(engine_config, index);
            let rtp_pool = Arc::clone(&rtp_pool);
            let worker = Worker::new(sockets, engine, rtp_pool, rtp_addresses, offload)
                .map_err(StartError::Worker)?;
            workers.queues.push(worker.queue());
            prepared.push(worker);
        }
        if workers.ports.len() < prepared.len() {
            Worker::share_port(&mut prepared);
        }
        if prepared.len() > 1 {
            Worker::share_media(&mut prepared);
        }
        // Threads come last: what fails before leaves nothing running.
        let workers = Arc::new(workers);
        for (index, worker) in prepared.into_iter().enumerate() {
            let cpu = cpus.get(index).copied();
            let thread = worker.spawn(index, cpu).map_err(StartError::Worker)?;
            workers.threads.lock().push(thread);
        }
        tracing::info!(
            ports = ?workers.ports,
            ice_tcp = config.ice_tcp,
            workers = workers.queues.len(),
            share_port = workers.ports.len() < workers.queues.len(),
            pinned_to = ?cpus,
            udp_offload = %offload,
            "media server started"
        );
        tracing::info!(addresses = ?workers.candidates, "announcing to peers");
        let files = Arc::new(Files::new(place));
        Ok(Self {
            workers,
            files,
            strict: false,
        })
    }

    /// The same server. Endpoints that are made through this handle describe themselves as Kurento's do: without what
    /// Kurento does not know, which is simulcast, retransmission formats, and reports on all packets together.
    pub fn strict(&self) -> Self {
        Self {
            strict: true,
            ..self.clone()
        }
    }

    /// The port for UDP and for TCP, which all workers share; one for each worker where the system cannot
    /// share ports.
    pub fn ports(&self) -> &[u16] {
        &self.workers.ports
    }

    /// The addresses that peers are told.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.workers.candidates
    }

    /// Completes all recordings, releases everything, which tells the peers, and stops the workers. Calls made later fail with
    /// [`Error::Unavailable`]. Blocks until all recordings are written.
    pub fn shutdown(&self) {
        self.files.shutdown();
        for queue in &self.workers.queues {
            queue.stop();
        }
        for thread in std::mem::take(&mut *self.workers.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a media worker panicked");
            }
        }
    }

    /// What each worker has counted so far, by index. Workers that have stopped are missing.
    pub async fn metrics(&self) -> Vec<Metrics> {
        let mut answers = Vec::new();
        for queue in &self.workers.queues {
            let (reply, answer) = oneshot::channel();
            if queue.metrics(reply).is_ok() {
                answers.push(answer);
            }
        }
        let mut metrics = Vec::new();
        for answer in answers {
            metrics.extend(answer.await);
        }
        metrics
    }

    /// Makes a call on an element that panics.
    #[cfg(test)]
    pub(crate) async fn panic_in(&self, element: &ElementId) -> Result<(), Error> {
        self.on(element, |_, _, _| panic!("on purpose")).await
    }

    #[cfg(test)]
    pub(crate) fn queues(&self) -> &[Arc<CommandQueue>] {
        &self.workers.queues
    }

    /// The worker where a pipeline was made.
    fn home(&self, pipeline: &PipelineId) -> Result<&Arc<CommandQueue>, Error> {
        ids::worker_of_pipeline(pipeline)
            .and_then(|worker| self.workers.queues.get(worker))
            .ok_or_else(|| Error::PipelineNotFound(pipeline.clone()))
    }

    fn make(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send + use<> {
        let (id, strict) = (pipeline.clone(), self.strict);
        create(
            self.place(pipeline, &kind),
            move |engine, rtp, now| match kind {
                ElementKind::RtpEndpoint { sdes, ipv6 } => {
                    engine.create_rtp_endpoint(now, &id, rtp.open(ipv6)?, sdes, events)
                }
                kind => {
                    let made = engine.create_element(now, &id, kind, events)?;
                    if strict {
                        engine.be_strict(&made);
                    }
                    Ok(made)
                }
            },
            CommandQueue::note_element,
            CommandQueue::release_element,
        )
    }

    /// As [`ask`], about an element.
    fn on<T, F>(
        &self,
        element: &ElementId,
        call: F,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Engine, Instant, &ElementId) -> Result<T, Error> + Send + 'static,
    {
        let (id, subject) = (element.clone(), Subject::Element(element.clone()));
        let queue = self.queue_of_element(element);
        ask(queue, subject, move |engine, now| call(engine, now, &id))
    }

    fn queue_of_element(&self, element: &ElementId) -> Result<&Arc<CommandQueue>, Error> {
        ids::worker_of_element(element)
            .and_then(|worker| self.workers.queues.get(worker))
            .ok_or_else(|| Error::ElementNotFound(element.clone()))
    }

    /// The worker to make or cut a connection on, which is its sink's. That the source exists on another one is
    /// found out here, so that it is before anything changes.
    fn queue_of_sink(
        &self,
        source: &ElementId,
        sink: &ElementId,
    ) -> Result<&Arc<CommandQueue>, Error> {
        let sources = self.queue_of_element(source)?;
        let queue = self.queue_of_element(sink)?;
        if !Arc::ptr_eq(queue, sources) && !sources.has_element(source) {
            return Err(Error::ElementNotFound(source.clone()));
        }
        Ok(queue)
    }

    /// The worker to put a pipeline on.
    fn least_loaded(&self) -> Result<&Arc<CommandQueue>, Error> {
        let queues = self.workers.queues.iter();
        queues.min_by_key(|queue| queue.load()).ok_or_else(gone)
    }

    /// The worker to put an element on, with a branch of the pipeline there.
    fn place(
        &self,
        pipeline: &PipelineId,
        kind: &ElementKind,
    ) -> Result<&Arc<CommandQueue>, Error> {
        let home = self.home(pipeline)?;
        let is_endpoint = matches!(
            kind,
            ElementKind::WebRtcEndpoint { .. } | ElementKind::RtpEndpoint { .. }
        );
        // The others stay where the pipeline was made, so that media cannot go in circles between workers.
        if !is_endpoint || self.workers.queues.len() < 2 {
            return Ok(home);
        }
        if home.elements_of(pipeline) < SPILL_ELEMENTS_MIN {
            return Ok(home);
        }
        let other = self.least_loaded()?;
        if home.load() <= other.load() + SPILL_MARGIN || Arc::ptr_eq(other, home) {
            return Ok(home);
        }
        other.add_branch(pipeline);
        // In this order, so that a release meanwhile has either found the branch or is found out.
        if !home.has_pipeline(pipeline) {
            other.release_pipeline(pipeline);
            return Err(Error::PipelineNotFound(pipeline.clone()));
        }
        Ok(other)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.stop();
        }
    }
}

/// Ties the monotonic clock to the one of the world. All workers share the tie, so that their streams
/// can be synchronised.
fn read_clocks() -> Clock {
    // A system clock before 1970 is wrong by any measure; only differences matter then.
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Clock {
        at: Instant::now(),
        ntp: NtpTime(NTP_UNIX_EPOCH_SECONDS << 32).wrapping_add(since_1970),
    }
}

/// Makes `call` on the worker behind `queue`. The call is queued at once, not when the future is first
/// polled, so that calls take effect in the order in which they were made. A panic in it costs `subject` only.
fn ask<T, F>(
    queue: Result<&Arc<CommandQueue>, Error>,
    subject: Subject,
    call: F,
) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Engine, Instant) -> Result<T, Error> + Send + 'static,
{
    ask_with_sockets(queue, subject, |engine, _, now| call(engine, now))
}

/// As [`ask`], for a call that may need sockets for what it makes.
fn ask_with_sockets<T, F>(
    queue: Result<&Arc<CommandQueue>, Error>,
    subject: Subject,
    call: F,
) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Engine, &mut RtpSockets, Instant) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let queued = queue.and_then(|queue| {
        queue.call(Box::new(move |engine, rtp, now| {
            let result = engine.contain(&subject, |engine| call(engine, rtp, now));
            // The caller may have given up waiting; the call counts all the same.
            let _ = reply.send(result);
        }))
    });
    async move {
        queued?;
        answer.await.map_err(|_| gone())?
    }
}

/// As [`ask`], for a call that makes something.
fn create<Id, F>(
    queue: Result<&Arc<CommandQueue>, Error>,
    make: F,
    note: fn(&CommandQueue, &Id),
    release: fn(&CommandQueue, &Id),
) -> impl Future<Output = Result<Id, Error>> + Send + use<Id, F>
where
    Id: Send + 'static,
    F: FnOnce(&mut Engine, &mut RtpSockets, Instant) -> Result<Id, Error> + Send + 'static,
{
    let answer = queue.map(|queue| {
        let owner = Arc::clone(queue);
        ask_with_sockets(Ok(queue), Subject::None, move |engine, rtp, now| {
            let id = make(engine, rtp, now)?;
            note(&owner, &id);
            Ok(Created::new(owner, id, release))
        })
    });
    async move { answer?.await.map(Created::keep) }
}

impl MediaServer for NativeMediaServer {
    fn create_pipeline(
        &self,
        events: EventSender,
    ) -> impl Future<Output = Result<PipelineId, Error>> + Send {
        create(
            self.least_loaded(),
            move |engine, _, now| Ok(engine.create_pipeline(now, events)),
            CommandQueue::note_pipeline,
            CommandQueue::release_pipeline,
        )
    }

    fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send {
        self.make(pipeline, kind, events)
    }

    fn process_offer(
        &self,
        element: &ElementId,
        offer: &str,
    ) -> impl Future<Output = Result<String, Error>> + Send {
        let offer = offer.to_owned();
        self.on(element, move |engine, now, id| {
            engine.process_offer(now, id, &offer)
        })
    }

    fn generate_offer(
        &self,
        element: &ElementId,
        options: OfferOptions,
    ) -> impl Future<Output = Result<String, Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.generate_offer(now, id, options)
        })
    }

    fn process_answer(
        &self,
        element: &ElementId,
        answer: &str,
    ) -> impl Future<Output = Result<String, Error>> + Send {
        let answer = answer.to_owned();
        self.on(element, move |engine, now, id| {
            engine.process_answer(now, id, &answer)
        })
    }

    fn gather_candidates(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.gather_candidates(now, id)
        })
    }

    fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.add_ice_candidate(now, id, &candidate)
        })
    }

    fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let (from, to) = (source.clone(), sink.clone());
        let subject = Subject::Element(sink.clone());
        ask(
            self.queue_of_sink(source, sink),
            subject,
            move |engine, now| engine.connect(now, &from, &to, kind),
        )
    }

    fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let (from, to) = (source.clone(), sink.clone());
        let subject = Subject::Element(sink.clone());
        ask(
            self.queue_of_sink(source, sink),
            subject,
            move |engine, now| engine.disconnect(now, &from, &to, kind),
        )
    }

    fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.set_bandwidth(now, id, limits)
        })
    }

    fn set_delivery(
        &self,
        element: &ElementId,
        delivery: Delivery,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.set_delivery(now, id, delivery)
        })
    }

    fn stats(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<EndpointStats, Error>> + Send {
        self.on(element, Engine::stats)
    }

    fn create_custom_element(
        &self,
        pipeline: &PipelineId,
        class: &str,
        parameters: &Parameters,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send {
        // Calls are queued here and not when the future is polled.
        let made: Pin<Box<dyn Future<Output = Result<ElementId, Error>> + Send>> =
            match FileClass::read(class, parameters) {
                Some(class) => Box::pin(self.create_file(pipeline, class, events)),
                None => {
                    let kind = ElementKind::Other(class.to_owned());
                    Box::pin(self.make(pipeline, kind, events))
                }
            };
        made
    }

    fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.invoke_file(element, operation, parameters)
    }

    fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> impl Future<Output = Result<Parameters, Error>> + Send {
        self.query_file(element, operation)
    }

    fn request_key_frame(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.request_key_frame(now, id)
        })
    }

    fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.create_data_channel(now, id, options)
        })
    }

    fn close_data_channel(
        &self,
        element: &ElementId,
        stream: u16,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.on(element, move |engine, now, id| {
            engine.close_data_channel(now, id, stream)
        })
    }

    fn release_element(&self, element: &ElementId) {
        self.files.release_element(element);
        if let Ok(queue) = self.queue_of_element(element) {
            queue.release_element(element);
        }
    }

    fn release_pipeline(&self, pipeline: &PipelineId) {
        self.files.release_pipeline(pipeline);
        // The home comes first; see `place`.
        if let Ok(home) = self.home(pipeline) {
            home.release_pipeline(pipeline);
        }
        for queue in &self.workers.queues {
            queue.release_pipeline(pipeline);
        }
    }
}

/// Something just made, on its way to the caller. If the caller has given up waiting, nobody would ever
/// release it, so it is released when it is dropped unseen.
struct Created<Id> {
    made: Option<(Arc<CommandQueue>, Id)>,
    release: fn(&CommandQueue, &Id),
}

impl<Id> Created<Id> {
    fn new(queue: Arc<CommandQueue>, id: Id, release: fn(&CommandQueue, &Id)) -> Self {
        Self {
            made: Some((queue, id)),
            release,
        }
    }

    fn keep(mut self) -> Id {
        let (_, id) = self
            .made
            .take()
            .expect("only `keep` and `drop` take it, and both are last");
        id
    }
}

impl<Id> Drop for Created<Id> {
    fn drop(&mut self) {
        if let Some((queue, id)) = self.made.take() {
            (self.release)(&queue, &id);
        }
    }
}
