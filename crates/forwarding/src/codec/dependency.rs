//! The dependency descriptor header extension (AV1 RTP payload specification, appendix A), of AV1 and other codecs.
//!
//! Read [`DependencyReader`] first, one per received stream: it keeps the template structures that come with key
//! frames and makes a [`Dependency`] of each descriptor. Towards a subscriber the descriptor is written again with a
//! [`DependencyPatch`]: another frame number, and the decode targets that are forwarded.
//!
//! Frame numbers keep the gaps of frames left out: a frame names its references by the difference of numbers, so
//! closing a gap would change what it refers to. Deliberately absent: chains. They tell a receiver which losses
//! matter; what is forwarded follows from decode targets and references alone.
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     +-+-+-+-+-+-+-+-+
//!     |S|E| template  |   first and last packet of the frame
//!     | frame number  |
//!     |               |
//!     |T|A|D|F|C|  …      if longer than three bytes: template structure, active targets,
//!     +-+-+-+-+-+-+-+-+   the frame's own indications, differences, chains
//! ```

mod bits;
mod structure;

use bits::{BitReader, BitWriter};
use structure::{Structure, Template};

use super::{LayerBounds, LayerId, PictureHeights};

/// Extension URI, for negotiation.
pub const DEPENDENCY_DESCRIPTOR_URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Decode targets that a structure can have (five bits).
const TARGETS_MAX: usize = 32;

/// Indications of a frame for a decode target.
const SWITCH: u64 = 2;

/// Bytes that [`DependencyReader::write`] may add to a descriptor: the five flags and a mask of all targets.
pub const DEPENDENCY_GROWTH_MAX: usize = 5;

/// What a descriptor says about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Number of the frame, modulo 2^16.
    pub frame_number: u16,
    /// Its layer.
    pub layer: LayerId,
    /// First packet of the frame.
    pub starts_frame: bool,
    /// Last packet of the frame.
    pub ends_frame: bool,
    /// The template structure is attached: the frame is a key frame, or follows a change of structure.
    pub has_structure: bool,
    /// Bit i: the frame refers to the frame whose number is i + 1 less.
    pub references: u64,
    /// It refers to a frame further back than `references` can tell.
    pub refers_far: bool,
    /// Bit [`LayerId::index`]: whoever gets this frame and its references can decode the decode target of that layer
    /// from here on.
    pub switches: u32,
    /// Which of the structures seen describes the frame.
    structure: u8,
}

impl Dependency {
    /// True if a receiver that knows nothing can start at this packet.
    #[inline]
    pub fn is_key(&self) -> bool {
        self.starts_frame
            && self.has_structure
            && self.references == 0
            && !self.refers_far
            && self.layer.spatial == 0
    }
}

/// What differs in a subscriber's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyPatch {
    /// Its number in the outgoing stream.
    pub frame_number: u16,
    /// The layers that are forwarded, of which the active decode targets follow.
    pub bounds: LayerBounds,
}

/// A structure and what the publisher said about its decode targets.
#[derive(Clone, Debug, Default)]
struct Known {
    structure: Structure,
    generation: u8,
    /// Bit i: decode target i is sent.
    active_targets: u32,
}

/// Reads the descriptors of one stream.
#[derive(Clone, Debug, Default)]
pub struct DependencyReader {
    current: Option<Known>,
    /// The one before: packets of its last frames may come late.
    former: Option<Known>,
    generations: u8,
}

/// The five flags behind the mandatory fields.
struct Flags {
    structure: bool,
    active_targets: bool,
    custom_indications: bool,
    custom_differences: bool,
    custom_chains: bool,
}

impl Flags {
    const NONE: Self = Self {
        structure: false,
        active_targets: false,
        custom_indications: false,
        custom_differences: false,
        custom_chains: false,
    };

    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        Some(Self {
            structure: bits.flag()?,
            active_targets: bits.flag()?,
            custom_indications: bits.flag()?,
            custom_differences: bits.flag()?,
            custom_chains: bits.flag()?,
        })
    }
}

const MANDATORY_LEN: usize = 3;
const MANDATORY_BITS: usize = 8 * MANDATORY_LEN;

impl DependencyReader {
    /// Reads the descriptor of a packet; takes over a structure that comes with it. `None` if it is malformed, or its
    /// structure was not seen: then nothing is known about the frame.
    pub fn read(&mut self, descriptor: &[u8]) -> Option<Dependency> {
        let (dependency, structure, active_targets) = self.parse(descriptor)?;
        if let Some(structure) = structure {
            self.take_over(structure);
        }
        if let (Some(active_targets), Some(current)) = (active_targets, &mut self.current)
            && current.generation == dependency.structure
        {
            current.active_targets = active_targets;
        }
        Some(dependency)
    }

    /// Heights of the pictures by the structure that came last.
    pub fn heights(&self) -> PictureHeights {
        let current = self.current.as_ref();
        current.map_or_else(PictureHeights::default, |known| known.structure.heights)
    }

    /// Reads the descriptor of a packet that is sent late: its structure may have come after it.
    pub fn read_again(&self, descriptor: &[u8]) -> Option<Dependency> {
        let (dependency, structure, _) = self.parse(descriptor)?;
        structure.is_none().then_some(dependency)
    }

    /// What a descriptor says, the structure and the mask of active targets that come with it.
    fn parse(&self, descriptor: &[u8]) -> Option<(Dependency, Option<Structure>, Option<u32>)> {
        let mut bits = BitReader::new(descriptor);
        let starts_frame = bits.flag()?;
        let ends_frame = bits.flag()?;
        let template_id = bits.read(6)? as u8;
        let frame_number = bits.read(16)? as u16;
        let flags = match descriptor.len() > MANDATORY_LEN {
            true => Flags::read(&mut bits)?,
            false => Flags::NONE,
        };
        let attached = match flags.structure {
            true => Some(Structure::read(&mut bits)?),
            false => None,
        };
        let (structure, generation) = match &attached {
            Some(structure) => (structure, self.generations.wrapping_add(1)),
            None => {
                let known = self.known_for(template_id)?;
                (&known.structure, known.generation)
            }
        };
        let targets = structure.targets;
        let active_targets = match flags.active_targets {
            true => Some(bits.read(targets)?),
            false => None,
        };
        let mut template = *structure.template(template_id)?;
        if flags.custom_indications {
            template.indications = structure::read_indications(&mut bits, targets)?;
        }
        if flags.custom_differences {
            read_differences(&mut bits, &mut template)?;
        }
        let dependency = Dependency {
            frame_number,
            layer: template.layer,
            starts_frame,
            ends_frame,
            has_structure: flags.structure,
            references: template.references,
            refers_far: template.refers_far,
            switches: structure.switches(&template),
            structure: generation,
        };
        Some((dependency, attached, active_targets))
    }

    /// Writes a descriptor of this stream for a subscriber to the beginning of `out` and returns its length.
    ///
    /// `out` should have [`DEPENDENCY_GROWTH_MAX`] bytes more than `descriptor`, which holds what
    /// [`Self::read`] made `dependency` of. Where the mask of active decode targets does not fit, or the structure is
    /// forgotten, it stays as it is. `None` if not even that fits.
    ///
    /// The mask is repeated in the first packet of every frame of the base layer, so that a receiver which loses one
    /// learns it from the next.
    pub fn write(
        &self,
        dependency: &Dependency,
        patch: &DependencyPatch,
        descriptor: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let len = self
            .write_masked(dependency, patch, descriptor, out)
            .or_else(|| {
                out.get_mut(..descriptor.len())?.copy_from_slice(descriptor);
                Some(descriptor.len())
            })?;
        out.get_mut(1..MANDATORY_LEN)?
            .copy_from_slice(&patch.frame_number.to_be_bytes());
        Some(len)
    }

    /// `None` if no mask need be written, or it cannot be.
    fn write_masked(
        &self,
        dependency: &Dependency,
        patch: &DependencyPatch,
        descriptor: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        if patch.bounds == LayerBounds::UNLIMITED {
            return None;
        }
        let known = [&self.current, &self.former]
            .into_iter()
            .flatten()
            .find(|known| known.generation == dependency.structure)?;
        let mut bits = BitReader::new(descriptor);
        bits.read(MANDATORY_BITS)?;
        let flags = match descriptor.len() > MANDATORY_LEN {
            true => Flags::read(&mut bits)?,
            false => Flags::NONE,
        };
        let is_base = dependency.layer == LayerId::BASE && dependency.starts_frame;
        if !(flags.structure || flags.active_targets || is_base) {
            return None;
        }
        let structure_start = bits.position();
        if flags.structure {
            Structure::read(&mut bits)?;
        }
        let structure_end = bits.position();
        let targets = known.structure.targets;
        let active = match flags.active_targets {
            true => bits.read(targets)?,
            false if flags.structure => u32::MAX,
            false => known.active_targets,
        };
        let forwarded = known.structure.targets_within(&patch.bounds);
        let rest_start = bits.position();

        let mut writer = BitWriter::new(out);
        writer.copy(descriptor, 0, MANDATORY_BITS)?;
        for flag in [
            flags.structure,
            true,
            flags.custom_indications,
            flags.custom_differences,
            flags.custom_chains,
        ] {
            writer.write(u32::from(flag), 1)?;
        }
        writer.copy(descriptor, structure_start, structure_end)?;
        writer.write(active & forwarded, targets)?;
        // Zero padding up to the end of the last byte is part of what is copied: up to seven bits too many are
        // padding too.
        writer.copy(descriptor, rest_start, 8 * descriptor.len())?;
        Some(writer.finish())
    }

    fn take_over(&mut self, structure: Structure) {
        self.generations = self.generations.wrapping_add(1);
        let active_targets = structure.all_targets();
        self.former = self.current.replace(Known {
            structure,
            generation: self.generations,
            active_targets,
        });
    }

    /// The structure that a template belongs to. Senders number the templates of successive structures differently.
    fn known_for(&self, template_id: u8) -> Option<&Known> {
        let has = |known: &&Known| known.structure.template(template_id).is_some();
        let current = self.current.as_ref().filter(has);
        current.or_else(|| self.former.as_ref().filter(has))
    }
}

/// The frame's own differences: of 4, 8 or 12 bits each, until a size of zero.
fn read_differences(bits: &mut BitReader<'_>, template: &mut Template) -> Option<()> {
    template.references = 0;
    template.refers_far = false;
    loop {
        let size = bits.read(2)? as usize;
        if size == 0 {
            return Some(());
        }
        template.refer(bits.read(4 * size)? + 1);
    }
}

#[cfg(test)]
mod tests;
