//! On which server everything is.

use std::collections::{HashMap, HashSet};

use media::{ElementId, PipelineId};

/// Servers are numbers here. Bounded by the rooms and endpoints there may be.
pub(super) struct Homes {
    /// Pipelines of each server, those being made included.
    rooms: Vec<usize>,
    pipelines: HashMap<PipelineId, Home>,
    elements: HashMap<ElementId, PipelineId>,
    turns: usize,
}

struct Home {
    server: usize,
    elements: HashSet<ElementId>,
}

impl Homes {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            rooms: vec![0; servers],
            pipelines: HashMap::new(),
            elements: HashMap::new(),
            turns: 0,
        }
    }

    pub(super) fn rooms(&self, server: usize) -> usize {
        self.rooms[server]
    }

    /// Counts choices, for those that take turns.
    pub(super) fn turn(&mut self) -> usize {
        let turn = self.turns;
        self.turns = self.turns.wrapping_add(1);
        turn
    }

    pub(super) fn reserve(&mut self, server: usize) {
        self.rooms[server] += 1;
    }

    pub(super) fn give_back(&mut self, server: usize) {
        self.rooms[server] -= 1;
    }

    /// A pipeline takes the place that was reserved for it.
    pub(super) fn add_pipeline(&mut self, server: usize, pipeline: &PipelineId) {
        let home = Home {
            server,
            elements: HashSet::new(),
        };
        self.pipelines.insert(pipeline.clone(), home);
    }

    /// False if the pipeline is gone.
    pub(super) fn add_element(&mut self, pipeline: &PipelineId, element: &ElementId) -> bool {
        let Some(home) = self.pipelines.get_mut(pipeline) else {
            return false;
        };
        home.elements.insert(element.clone());
        self.elements.insert(element.clone(), pipeline.clone());
        true
    }

    pub(super) fn of_pipeline(&self, pipeline: &PipelineId) -> Option<usize> {
        Some(self.pipelines.get(pipeline)?.server)
    }

    pub(super) fn of_element(&self, element: &ElementId) -> Option<usize> {
        self.of_pipeline(self.elements.get(element)?)
    }

    pub(super) fn remove_element(&mut self, element: &ElementId) -> Option<usize> {
        let pipeline = self.elements.remove(element)?;
        let home = self.pipelines.get_mut(&pipeline)?;
        home.elements.remove(element);
        Some(home.server)
    }

    pub(super) fn remove_pipeline(&mut self, pipeline: &PipelineId) -> Option<usize> {
        let home = self.pipelines.remove(pipeline)?;
        for element in &home.elements {
            self.elements.remove(element);
        }
        self.give_back(home.server);
        Some(home.server)
    }
}
