//! Spatial and temporal layers within one stream: [`LayerId`], and which of them are forwarded: [`LayerBounds`].

/// Spatial layers told apart. AV1 has four; VP9 could have eight, of which browsers use three.
pub const SPATIAL_LAYERS_MAX: usize = 4;

/// Temporal layers told apart (three bits in VP9 and AV1).
pub const TEMPORAL_LAYERS_MAX: usize = 8;

/// A layer by its place: each builds on those with lower numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId {
    /// 0..=3, 0 being the smallest picture.
    pub spatial: u8,
    /// 0..=7, 0 being the lowest frame rate.
    pub temporal: u8,
}

impl LayerId {
    /// Which every receiver needs.
    pub const BASE: Self = Self {
        spatial: 0,
        temporal: 0,
    };

    /// The highest there is: as a limit, none.
    pub const HIGHEST: Self = Self {
        spatial: SPATIAL_LAYERS_MAX as u8 - 1,
        temporal: TEMPORAL_LAYERS_MAX as u8 - 1,
    };

    /// `None` if a number is out of range.
    pub fn new(spatial: u8, temporal: u8) -> Option<Self> {
        let layer = Self { spatial, temporal };
        (spatial <= Self::HIGHEST.spatial && temporal <= Self::HIGHEST.temporal).then_some(layer)
    }

    /// True if all of `other` is needed for this one, or it is the same.
    #[inline]
    pub fn includes(self, other: Self) -> bool {
        other.spatial <= self.spatial && other.temporal <= self.temporal
    }

    /// Its place in a mask of 32 layers: eight temporal layers for each spatial one.
    #[inline]
    pub fn index(self) -> u32 {
        u32::from(self.spatial) * TEMPORAL_LAYERS_MAX as u32 + u32::from(self.temporal)
    }
}

/// The layers of a stream that one subscriber gets: for each spatial layer its highest temporal layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBounds([i8; SPATIAL_LAYERS_MAX]);

/// A spatial layer that is not forwarded.
const NONE: i8 = -1;

impl LayerBounds {
    /// All layers.
    pub const UNLIMITED: Self = Self::up_to(LayerId::HIGHEST);

    /// No layer.
    pub const NOTHING: Self = Self([NONE; SPATIAL_LAYERS_MAX]);

    /// All layers up to `limit`, in both directions.
    pub const fn up_to(limit: LayerId) -> Self {
        let mut bounds = [NONE; SPATIAL_LAYERS_MAX];
        let mut spatial = 0;
        while spatial < SPATIAL_LAYERS_MAX && spatial <= limit.spatial as usize {
            bounds[spatial] = limit.temporal as i8;
            spatial += 1;
        }
        Self(bounds)
    }

    /// True if packets of `layer` are forwarded.
    #[inline]
    pub fn admit(&self, layer: LayerId) -> bool {
        let bound = self.0.get(usize::from(layer.spatial)).copied();
        bound.is_some_and(|bound| layer.temporal as i8 <= bound)
    }

    /// The highest spatial layer forwarded of a picture in temporal layer `temporal`; `None` if nothing is.
    #[inline]
    pub fn top(&self, temporal: u8) -> Option<u8> {
        let admits = |bound: &i8| temporal as i8 <= *bound;
        self.0.iter().rposition(admits).map(|top| top as u8)
    }

    /// What both have.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).min(theirs);
        }
        self
    }

    /// What either has.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
        self
    }

    /// The highest temporal layer forwarded of a spatial layer.
    pub fn temporal(&self, spatial: u8) -> Option<u8> {
        let bound = self.0.get(usize::from(spatial)).copied();
        bound.and_then(|bound| u8::try_from(bound).ok())
    }

    /// Adds temporal layers of a spatial layer, as far as the spatial layer below it has them.
    pub fn raise(&mut self, spatial: u8, temporal: u8) {
        let spatial = usize::from(spatial);
        let below = match spatial.checked_sub(1) {
            Some(below) => self.0[below],
            None => i8::MAX,
        };
        self.0[spatial] = self.0[spatial].max((temporal as i8).min(below));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(spatial: u8, temporal: u8) -> LayerId {
        LayerId::new(spatial, temporal).unwrap()
    }

    #[test]
    fn bounds_admit_what_is_below_in_both_directions() {
        let bounds = LayerBounds::up_to(layer(1, 2));
        // (layer, admitted)
        let rows = [
            (LayerId::BASE, true),
            (layer(0, 2), true),
            (layer(0, 3), false),
            (layer(1, 2), true),
            (layer(2, 0), false),
        ];
        for (layer, admitted) in rows {
            assert_eq!(bounds.admit(layer), admitted, "{layer:?}");
        }
        assert_eq!((bounds.top(2), bounds.top(3)), (Some(1), None));
        assert!(LayerBounds::UNLIMITED.admit(LayerId::HIGHEST));
        assert!(!LayerBounds::NOTHING.admit(LayerId::BASE));
        assert_eq!(LayerId::HIGHEST.index(), 31);
        assert_eq!(LayerId::new(4, 0), None);
    }

    #[test]
    fn spatial_layer_is_raised_no_further_than_the_one_below() {
        let mut bounds = LayerBounds::NOTHING;
        bounds.raise(1, 2);
        assert_eq!(bounds, LayerBounds::NOTHING);
        bounds.raise(0, 1);
        bounds.raise(1, 2);
        assert_eq!(bounds, LayerBounds::up_to(layer(1, 1)));
        assert_eq!((bounds.temporal(1), bounds.temporal(2)), (Some(1), None));
    }
}
