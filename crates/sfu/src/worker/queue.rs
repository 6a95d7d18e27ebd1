//! What signaling wants of a worker: calls, releases, and the order to stop, oldest first.
//!
//! [`CommandQueue`] never loses a release and yet is bounded: calls are refused beyond a limit, and a
//! release is taken only for something that exists and once, which the queue knows because it keeps the
//! books of what its worker has made. The same books tell how loaded the worker is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use media::{ElementId, Error, PipelineId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::rtp::RtpSockets;
use crate::engine::Engine;
use crate::engine::ids::pipeline_of;
use crate::metrics::Metrics;

/// Calls that may wait for a worker. Too low: a join storm is refused. Too high: callers time out before
/// their turn, and the work is done for nobody.
const CALLS_MAX: usize = 4096;

/// A call, made on the worker's thread. The sockets are for calls that need some for what they make.
pub(crate) type Call = Box<dyn FnOnce(&mut Engine, &mut RtpSockets, Instant) + Send>;

/// What a worker is asked to do.
pub(crate) enum Command {
    Call(Call),
    Metrics(oneshot::Sender<Metrics>),
    /// Make place for elements of a pipeline that was made on another worker.
    AddBranch(PipelineId),
    ReleaseElement(ElementId),
    ReleasePipeline(PipelineId),
    Stop,
}

/// The way from signaling to one worker.
pub(crate) struct CommandQueue {
    state: Mutex<State>,
    waker: Arc<mio::Waker>,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// Calls among the commands.
    calls: usize,
    /// What exists on the worker, without what is about to be released.
    pipelines: HashMap<PipelineId, HashSet<ElementId>>,
    elements: usize,
    is_closed: bool,
}

impl CommandQueue {
    pub(crate) fn new(waker: Arc<mio::Waker>) -> Self {
        Self {
            state: Mutex::default(),
            waker,
        }
    }

    /// Queues a call. Dropping it unmade is how callers learn that the worker is gone.
    pub(crate) fn call(&self, call: Call) -> Result<(), Error> {
        self.push_call(Command::Call(call))
    }

    /// Queues a request for metrics.
    pub(crate) fn metrics(&self, reply: oneshot::Sender<Metrics>) -> Result<(), Error> {
        self.push_call(Command::Metrics(reply))
    }

    fn push_call(&self, command: Command) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(gone());
        }
        if state.calls >= CALLS_MAX {
            return Err(Error::Unavailable("overloaded".to_owned()));
        }
        state.calls += 1;
        self.push(&mut state, command);
        Ok(())
    }

    /// Queues the release of an element, if it exists.
    pub(crate) fn release_element(&self, element: &ElementId) {
        let mut state = self.state.lock();
        let Some(elements) = state.pipelines.get_mut(&pipeline_of(element)) else {
            return;
        };
        if elements.remove(element) {
            state.elements -= 1;
            self.push(&mut state, Command::ReleaseElement(element.clone()));
        }
    }

    /// Queues the release of a pipeline with its elements, if it exists.
    pub(crate) fn release_pipeline(&self, pipeline: &PipelineId) {
        let mut state = self.state.lock();
        if let Some(elements) = state.pipelines.remove(pipeline) {
            state.elements -= elements.len();
            self.push(&mut state, Command::ReleasePipeline(pipeline.clone()));
        }
    }

    /// Queues the release of everything and then the end of the worker.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.elements = 0;
        for (pipeline, _) in std::mem::take(&mut state.pipelines) {
            self.push(&mut state, Command::ReleasePipeline(pipeline));
        }
        self.push(&mut state, Command::Stop);
    }

    /// Elements and pipelines on the worker, and calls which may add more.
    pub(crate) fn load(&self) -> usize {
        let state = self.state.lock();
        state.elements + state.pipelines.len() + state.calls
    }

    /// Elements of a pipeline here.
    pub(crate) fn elements_of(&self, pipeline: &PipelineId) -> usize {
        let state = self.state.lock();
        state.pipelines.get(pipeline).map_or(0, HashSet::len)
    }

    /// Makes place for elements of a pipeline that was made on another worker, unless there is.
    pub(crate) fn add_branch(&self, pipeline: &PipelineId) {
        let mut state = self.state.lock();
        if !state.pipelines.contains_key(pipeline) {
            state.pipelines.insert(pipeline.clone(), HashSet::new());
            self.push(&mut state, Command::AddBranch(pipeline.clone()));
        }
    }

    /// True if the pipeline, or a branch of it, exists and is not about to be released.
    pub(crate) fn has_pipeline(&self, pipeline: &PipelineId) -> bool {
        self.state.lock().pipelines.contains_key(pipeline)
    }

    /// True if the element exists and is not about to be released.
    pub(crate) fn has_element(&self, element: &ElementId) -> bool {
        let state = self.state.lock();
        let elements = state.pipelines.get(&pipeline_of(element));
        elements.is_some_and(|elements| elements.contains(element))
    }

    /// The worker made a pipeline.
    pub(crate) fn note_pipeline(&self, pipeline: &PipelineId) {
        let mut state = self.state.lock();
        state.pipelines.insert(pipeline.clone(), HashSet::new());
    }

    /// The worker made an element.
    pub(crate) fn note_element(&self, element: &ElementId) {
        let mut state = self.state.lock();
        // Without the pipeline, its release waits in the queue, and takes the element along.
        if let Some(elements) = state.pipelines.get_mut(&pipeline_of(element))
            && elements.insert(element.clone())
        {
            state.elements += 1;
        }
    }

    /// The oldest command.
    pub(crate) fn pop(&self) -> Option<Command> {
        let mut state = self.state.lock();
        let command = state.commands.pop_front()?;
        if matches!(command, Command::Call(_) | Command::Metrics(_)) {
            state.calls -= 1;
        }
        Some(command)
    }

    /// Commands that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().commands.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().commands.is_empty()
    }

    /// The worker is gone: refuses calls, and drops those that wait.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.calls = 0;
            std::mem::take(&mut state.commands)
        };
        // A dropped call may release what it was about to return, which needs the lock.
        drop(dropped);
    }

    fn push(&self, state: &mut State, command: Command) {
        if state.is_closed {
            return;
        }
        let was_empty = state.commands.is_empty();
        state.commands.push_back(command);
        // While something waits, the worker comes back without being told.
        if was_empty && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a media worker");
        }
    }
}

/// The error of a call to a worker that has stopped.
pub(crate) fn gone() -> Error {
    Error::Unavailable("shut down".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> CommandQueue {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        CommandQueue::new(Arc::new(waker))
    }

    fn drain(queue: &CommandQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|command| match command {
                Command::Call(_) => "call".to_owned(),
                Command::Metrics(_) => "metrics".to_owned(),
                Command::AddBranch(id) => format!("add {id}"),
                Command::ReleaseElement(id) => format!("release {id}"),
                Command::ReleasePipeline(id) => format!("release {id}"),
                Command::Stop => "stop".to_owned(),
            })
            .collect()
    }

    #[test]
    fn releases_keep_their_place_among_calls() {
        let queue = queue();
        queue.note_pipeline(&PipelineId::new("p"));
        queue.note_element(&ElementId::new("p/e"));

        queue.call(Box::new(|_, _, _| {})).unwrap();
        queue.release_element(&ElementId::new("p/e"));
        queue.call(Box::new(|_, _, _| {})).unwrap();
        queue.release_pipeline(&PipelineId::new("p"));

        assert_eq!(drain(&queue), ["call", "release p/e", "call", "release p"]);
    }

    #[test]
    fn releases_of_what_does_not_exist_leave_no_trace() {
        let queue = queue();
        queue.note_pipeline(&PipelineId::new("p"));
        queue.note_element(&ElementId::new("p/e"));

        for _ in 0..1000 {
            queue.release_element(&ElementId::new("p/e"));
            queue.release_element(&ElementId::new("p/x"));
            queue.release_element(&ElementId::new("x"));
            queue.release_pipeline(&PipelineId::new("x"));
        }

        assert_eq!(drain(&queue), ["release p/e"]);
    }

    #[test]
    fn release_is_taken_when_no_call_is() {
        let queue = queue();
        queue.note_pipeline(&PipelineId::new("p"));
        while queue.call(Box::new(|_, _, _| {})).is_ok() {}

        queue.release_pipeline(&PipelineId::new("p"));

        let commands = drain(&queue);
        assert_eq!(commands.len(), CALLS_MAX + 1);
        assert_eq!(commands.last().unwrap(), "release p");
        assert!(queue.call(Box::new(|_, _, _| {})).is_ok());
    }

    #[test]
    fn load_follows_what_is_made_and_released() {
        let queue = queue();
        queue.note_pipeline(&PipelineId::new("p"));
        queue.note_element(&ElementId::new("p/a"));
        queue.note_element(&ElementId::new("p/b"));
        queue.note_element(&ElementId::new("released/c"));
        assert_eq!(queue.load(), 3);

        queue.release_element(&ElementId::new("p/a"));
        assert_eq!(queue.load(), 2);

        queue.release_pipeline(&PipelineId::new("p"));
        assert_eq!(queue.load(), 0);
    }

    #[test]
    fn branch_is_made_once_and_released_as_a_pipeline() {
        let queue = queue();
        let pipeline = PipelineId::new("p");
        queue.add_branch(&pipeline);
        queue.add_branch(&pipeline);
        queue.note_element(&ElementId::new("p/e"));
        assert!(queue.has_pipeline(&pipeline) && queue.has_element(&ElementId::new("p/e")));

        queue.release_pipeline(&pipeline);
        queue.release_pipeline(&pipeline);

        assert!(!queue.has_pipeline(&pipeline) && !queue.has_element(&ElementId::new("p/e")));
        assert_eq!(drain(&queue), ["add p", "release p"]);
    }

    #[test]
    fn stop_releases_everything_first() {
        let queue = queue();
        queue.note_pipeline(&PipelineId::new("p"));

        queue.stop();

        assert_eq!(drain(&queue), ["release p", "stop"]);
    }

    #[test]
    fn closed_queue_refuses_calls_and_drops_those_that_wait() {
        let queue = queue();
        let (reply, mut answer) = oneshot::channel();
        queue.metrics(reply).unwrap();

        queue.close();

        assert!(answer.try_recv().is_err());
        assert_eq!(queue.call(Box::new(|_, _, _| {})), Err(gone()));
    }
}
