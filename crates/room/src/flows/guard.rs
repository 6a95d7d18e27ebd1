//! Elements that no participant owns yet.

use media::{ElementId, MediaServer};

/// Releases what it holds when dropped, unless the rules took it over.
pub(super) struct ElementGuard<'a, M: MediaServer> {
    media: &'a M,
    elements: Vec<ElementId>,
}

impl<'a, M: MediaServer> ElementGuard<'a, M> {
    pub(super) fn new(media: &'a M) -> Self {
        Self {
            media,
            elements: Vec::new(),
        }
    }

    pub(super) fn adopt(&mut self, element: ElementId) {
        self.elements.push(element);
    }

    /// The elements are someone else's from here on.
    pub(super) fn hand_over(mut self) {
        self.elements.clear();
    }
}

impl<M: MediaServer> Drop for ElementGuard<'_, M> {
    fn drop(&mut self) {
        for element in &self.elements {
            self.media.release_element(element);
        }
    }
}
