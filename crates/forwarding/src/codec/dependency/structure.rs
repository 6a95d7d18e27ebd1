//! The template dependency structure: [`Structure`].

use super::{BitReader, SWITCH, TARGETS_MAX};
use crate::codec::{LayerBounds, LayerId, PictureHeights};

/// Templates that six bits can name.
const TEMPLATES_MAX: usize = 64;

/// What the frames of a template have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) layer: LayerId,
    /// Two bits for each decode target, the first in the lowest.
    pub(super) indications: u64,
    pub(super) references: u64,
    pub(super) refers_far: bool,
}

impl Template {
    /// Adds a reference to the frame `difference` back, at least 1.
    pub(super) fn refer(&mut self, difference: u32) {
        match 1u64.checked_shl(difference - 1) {
            Some(bit) => self.references |= bit,
            None => self.refers_far = true,
        }
    }

    fn indication(&self, target: usize) -> u64 {
        self.indications >> (2 * target) & 3
    }
}

/// Templates and decode targets.
#[derive(Clone, Debug, Default)]
pub(super) struct Structure {
    id_offset: u8,
    /// Decode targets, 1..=32.
    pub(super) targets: usize,
    /// The highest layer in each.
    pub(super) target_layers: [LayerId; TARGETS_MAX],
    /// At most [`TEMPLATES_MAX`].
    templates: Vec<Template>,
    pub(super) heights: PictureHeights,
}

impl Structure {
    pub(super) fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let id_offset = bits.read(6)? as u8;
        let targets = bits.read(5)? as usize + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.indications = read_indications(bits, targets)?;
        }
        for template in &mut templates {
            while bits.flag()? {
                template.refer(bits.read(4)? + 1);
            }
        }
        skip_chains(bits, targets, templates.len())?;
        let mut heights = PictureHeights::default();
        if bits.flag()? {
            let spatial_max = templates.iter().map(|it| it.layer.spatial).max()?;
            for height in &mut heights.0[..=usize::from(spatial_max)] {
                bits.read(16)?;
                // Less by one than what it stands for.
                *height = (bits.read(16)? as u16).saturating_add(1);
            }
        }
        let mut target_layers = [LayerId::BASE; TARGETS_MAX];
        for (target, layer) in target_layers.iter_mut().enumerate().take(targets) {
            for template in templates.iter().filter(|it| it.indication(target) != 0) {
                layer.spatial = layer.spatial.max(template.layer.spatial);
                layer.temporal = layer.temporal.max(template.layer.temporal);
            }
        }
        Some(Self {
            id_offset,
            targets,
            target_layers,
            templates,
            heights,
        })
    }

    pub(super) fn template(&self, id: u8) -> Option<&Template> {
        let index = (id + 64 - self.id_offset) % 64;
        self.templates.get(usize::from(index))
    }

    /// The mask of all decode targets.
    pub(super) fn all_targets(&self) -> u32 {
        u32::MAX >> (TARGETS_MAX - self.targets)
    }

    /// The mask of the decode targets of which every layer is forwarded.
    pub(super) fn targets_within(&self, bounds: &LayerBounds) -> u32 {
        let layers = self.target_layers.iter().take(self.targets);
        let within = layers
            .enumerate()
            .filter(|(_, layer)| bounds.admit(**layer));
        within.fold(0, |mask, (target, _)| mask | 1 << target)
    }

    /// For [`super::Dependency::switches`].
    pub(super) fn switches(&self, template: &Template) -> u32 {
        let layers = self.target_layers.iter().take(self.targets);
        let switching = layers
            .enumerate()
            .filter(|(target, _)| template.indication(*target) == SWITCH);
        switching.fold(0, |mask, (_, layer)| mask | 1 << layer.index())
    }
}

/// Templates with their layers; `None` for more layers than there are.
fn read_layers(bits: &mut BitReader<'_>) -> Option<Vec<Template>> {
    let mut templates = Vec::new();
    let mut layer = LayerId::BASE;
    loop {
        if templates.len() == TEMPLATES_MAX {
            return None;
        }
        templates.push(Template {
            layer,
            ..Template::default()
        });
        match bits.read(2)? {
            0 => {}
            1 => layer = LayerId::new(layer.spatial, layer.temporal + 1)?,
            2 => layer = LayerId::new(layer.spatial + 1, 0)?,
            _ => return Some(templates),
        }
    }
}

pub(super) fn read_indications(bits: &mut BitReader<'_>, targets: usize) -> Option<u64> {
    let mut indications = 0;
    for target in 0..targets {
        indications |= u64::from(bits.read(2)?) << (2 * target);
    }
    Some(indications)
}

fn skip_chains(bits: &mut BitReader<'_>, targets: usize, templates: usize) -> Option<()> {
    let chains = bits.read_below(targets as u32 + 1)?;
    if chains == 0 {
        return Some(());
    }
    for _ in 0..targets {
        bits.read_below(chains)?;
    }
    for _ in 0..templates * chains as usize {
        bits.read(4)?;
    }
    Some(())
}
