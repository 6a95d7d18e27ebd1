//! Names of pipelines and elements: what they say, and where.
//!
//! A pipeline's id begins with the worker where it was made, an element's names its pipeline and then its own
//! worker, which may be another. Made like those of Kurento, since clients take them apart.

use media::{ElementId, ElementKind, PipelineId};

/// Hexadecimal digits that name a worker.
const WORKER_DIGITS: usize = 4;

pub(super) fn pipeline(worker: usize) -> PipelineId {
    let number: u64 = rand::random();
    PipelineId::new(format!("{worker:04x}{number:016x}_kurento.MediaPipeline"))
}

pub(super) fn element(pipeline: &PipelineId, worker: usize, kind: &ElementKind) -> ElementId {
    let number: u64 = rand::random();
    let class = kind.class_name();
    ElementId::new(format!(
        "{pipeline}/{worker:04x}{number:016x}_kurento.{class}"
    ))
}

/// The worker where a pipeline was made; `None`: it is no id of ours.
pub fn worker_of_pipeline(id: &PipelineId) -> Option<usize> {
    leading_worker(id.as_str())
}

/// The worker where an element lives; `None`: it is no id of ours.
pub fn worker_of_element(id: &ElementId) -> Option<usize> {
    let (_, name) = id.as_str().split_once('/')?;
    leading_worker(name)
}

/// The pipeline of an element.
pub fn pipeline_of(id: &ElementId) -> PipelineId {
    let text = id.as_str();
    PipelineId::new(text.split_once('/').map_or(text, |(pipeline, _)| pipeline))
}

fn leading_worker(text: &str) -> Option<usize> {
    let digits = text.get(..WORKER_DIGITS)?;
    let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    usize::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hexadecimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_workers() {
        let pipeline = pipeline(3);
        let element = element(&pipeline, 0xab, &ElementKind::PassThrough);

        assert_eq!(worker_of_pipeline(&pipeline), Some(3));
        assert_eq!(worker_of_element(&element), Some(0xab));
        assert_eq!(pipeline_of(&element), pipeline);
    }

    #[test]
    fn ids_of_others_name_no_worker() {
        for text in ["", "x", "zzzz_x", "+123_x", "äöüß", "00", "p/", "p/zzzz"] {
            assert_eq!(worker_of_pipeline(&PipelineId::new(text)), None, "{text}");
            assert_eq!(worker_of_element(&ElementId::new(text)), None, "{text}");
        }
        assert_eq!(worker_of_element(&ElementId::new("0001x")), None);
    }
}
